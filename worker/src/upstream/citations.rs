//! Takes out citations of references that were never given, which another server's sampling does not prevent.

/// Passes text on, but for marks `[n]` whose number is none of the references'.
#[derive(Debug)]
pub struct KnownCitations {
    references: usize,
    /// What may become a mark: `[` and digits.
    held: String,
}

impl KnownCitations {
    /// Lets `[1]` to `[references]` pass.
    pub fn new(references: usize) -> Self {
        Self { references, held: String::new() }
    }

    /// Takes the next piece; gives what is certain.
    pub fn push(&mut self, piece: &str) -> String {
        let mut passed = String::new();
        for c in piece.chars() {
            match c {
                '[' => {
                    passed.push_str(&std::mem::take(&mut self.held));
                    self.held.push(c);
                }
                c if self.held.is_empty() => passed.push(c),
                c if c.is_ascii_digit() => self.held.push(c),
                ']' if self.held.len() > 1 => {
                    let mark = std::mem::take(&mut self.held);
                    if mark[1..].parse().is_ok_and(|n: usize| (1..=self.references).contains(&n)) {
                        passed.push_str(&mark);
                        passed.push(c);
                    }
                }
                c => {
                    passed.push_str(&std::mem::take(&mut self.held));
                    passed.push(c);
                }
            }
        }
        passed
    }

    /// What was held back, at the end.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_citations_of_given_references_pass_however_the_text_is_cut() {
        let text = "多喝水[1]。休息[9][2]。[12][0]见[注]，[3";
        for size in 1..8 {
            let mut filter = KnownCitations::new(2);
            let chars: Vec<char> = text.chars().collect();
            let mut passed: String =
                chars.chunks(size).map(|piece| filter.push(&piece.iter().collect::<String>())).collect();
            passed += &filter.finish();
            assert_eq!(passed, "多喝水[1]。休息[2]。见[注]，[3", "in pieces of {size}");
        }
    }
}
