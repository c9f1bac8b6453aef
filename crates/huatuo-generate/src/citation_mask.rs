//! Constrained decoding: `[` may only begin the number of a reference that was given.

use crate::TextTokenizer;

/// Which tokens may follow, so that every mark in the answer is `[1]` … `[k]`.
pub struct CitationMask {
    tokens: Vec<String>,
    /// Tokens that contain a bracket: the only ones to check outside a mark.
    brackets: Vec<u32>,
    references: usize,
    /// Digits after an open bracket, `None` outside a mark.
    open: Option<String>,
}

impl CitationMask {
    /// A mask over a vocabulary of `size` tokens; nothing may be cited until [`Self::restart`].
    pub fn new(tokenizer: &TextTokenizer, size: usize) -> Self {
        let tokens: Vec<String> = (0..size as u32).map(|id| tokenizer.raw_token(id).unwrap_or_default()).collect();
        let brackets = (0..size as u32).filter(|id| tokens[*id as usize].contains('[')).collect();
        Self { tokens, brackets, references: 0, open: None }
    }

    /// Begins an answer that may cite `[1]` to `[references]`.
    pub fn restart(&mut self, references: usize) {
        (self.references, self.open) = (references, None);
    }

    /// Makes forbidden tokens impossible.
    pub fn apply(&self, logits: &mut [f32]) {
        let forbid = |logits: &mut [f32], id: usize| {
            if self.follow(&self.tokens[id]).is_none() {
                logits[id] = f32::NEG_INFINITY;
            }
        };
        if self.open.is_none() {
            self.brackets.iter().for_each(|&id| forbid(logits, id as usize));
        } else {
            (0..self.tokens.len().min(logits.len())).for_each(|id| forbid(logits, id));
        }
    }

    /// Takes note of the chosen token.
    pub fn accept(&mut self, id: u32) {
        if let Some(state) = self.tokens.get(id as usize).and_then(|token| self.follow(token)) {
            self.open = state;
        }
    }

    /// The state after a token; `None` when the token would write a mark that isn't a reference's.
    fn follow(&self, token: &str) -> Option<Option<String>> {
        let mut state = self.open.clone();
        if token.is_empty() && state.is_some() {
            return None;
        }
        for c in token.chars() {
            state = match (state, c) {
                (None, '[') if self.references > 0 => Some(String::new()),
                (None, '[') => return None,
                (None, _) => None,
                (Some(digits), ']') if self.is_reference(&digits) => None,
                (Some(digits), digit) if digit.is_ascii_digit() && self.begins_reference(&digits, digit) => {
                    Some(format!("{digits}{digit}"))
                }
                _ => return None,
            };
        }
        Some(state)
    }

    fn is_reference(&self, digits: &str) -> bool {
        digits.parse().is_ok_and(|n: usize| (1..=self.references).contains(&n))
    }

    fn begins_reference(&self, digits: &str, digit: char) -> bool {
        self.is_reference(&format!("{digits}{digit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(references: usize) -> CitationMask {
        let tokens: Vec<String> =
            ["好", "[", "1", "2", "9", "]", "[1]", "[7]", "]。", "1]", "", "。["].map(str::to_owned).to_vec();
        let brackets = (0..tokens.len() as u32).filter(|id| tokens[*id as usize].contains('[')).collect();
        CitationMask { tokens, brackets, references, open: None }
    }

    fn allowed(mask: &CitationMask) -> Vec<&str> {
        let mut logits = vec![0.0; mask.tokens.len()];
        mask.apply(&mut logits);
        (0..logits.len()).filter(|i| logits[*i] == 0.0).map(|i| mask.tokens[i].as_str()).collect()
    }

    #[test]
    fn outside_a_mark_only_wrong_marks_are_forbidden() {
        assert_eq!(allowed(&mask(2)), ["好", "[", "1", "2", "9", "]", "[1]", "]。", "1]", "", "。["]);
    }

    #[test]
    fn inside_a_mark_only_given_numbers_and_the_end_are_allowed() {
        let mut mask = mask(12);
        mask.accept(1);
        assert_eq!(allowed(&mask), ["1", "2", "9", "1]"]);
        mask.accept(2);
        assert_eq!(allowed(&mask), ["1", "2", "]", "]。", "1]"]);
        mask.accept(5);
        assert!(allowed(&mask).contains(&"好"));
    }

    #[test]
    fn without_references_nothing_is_cited() {
        assert!(allowed(&mask(0)).iter().all(|token| !token.contains('[')));
    }
}
