//! Sentences of an answer and the citation marks in them.

/// A sentence of an answer with what the grounding check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    /// The sentence as shown, citation marks included.
    pub text: String,
    /// Whether a reference states it.
    pub supported: bool,
    /// Numbers (1-based) of the references that support it; for an unsupported sentence none.
    pub citations: Vec<usize>,
}

/// Whether a sentence ends after this character.
pub(crate) fn ends_sentence(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '!' | '?' | '；' | '\n')
}

/// Splits a text after each sentence end; marks of the form `[n]` that follow the end stay with their sentence.
pub fn split_sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(ends_sentence) {
        let mut cut = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        while let Some(mark) = leading_citation(&rest[cut..]) {
            cut += mark;
        }
        push_trimmed(&mut found, &rest[..cut]);
        rest = &rest[cut..];
    }
    push_trimmed(&mut found, rest);
    found
}

fn push_trimmed<'a>(found: &mut Vec<&'a str>, piece: &'a str) {
    let piece = piece.trim();
    if !piece.is_empty() {
        found.push(piece);
    }
}

/// Length in bytes of a citation mark at the start of the text.
fn leading_citation(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let close = inner.find(']')?;
    (close > 0 && inner[..close].bytes().all(|b| b.is_ascii_digit())).then_some(close + 2)
}

/// Numbers of the citation marks `[n]`, in order of first appearance, each once.
pub fn citations_in(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for (at, _) in text.match_indices('[') {
        if let Some(length) = leading_citation(&text[at..])
            && let Ok(number) = text[at + 1..at + length - 1].parse()
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    numbers
}

/// The text without its citation marks.
pub fn without_citations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        kept.push_str(&rest[..open]);
        let length = leading_citation(&rest[open..]).unwrap_or(0);
        if length == 0 {
            kept.push('[');
        }
        rest = &rest[open + length.max(1)..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_before_and_after_the_full_stop_stay_with_the_sentence() {
        assert_eq!(
            split_sentences("多喝水[1]。早点睡。[2][3]必要时就医"),
            ["多喝水[1]。", "早点睡。[2][3]", "必要时就医"]
        );
    }

    #[test]
    fn citations_are_read_once_in_order() {
        assert_eq!(citations_in("甲[2]乙[1]丙[2][x][]"), [2, 1]);
    }

    #[test]
    fn only_citation_marks_are_removed() {
        assert_eq!(without_citations("甲[12]乙[注]丙["), "甲乙[注]丙[");
    }
}
