//! Holds back a sentence with digits or doses while it streams, until it is known to be supported by a reference.

use std::collections::HashSet;

use crate::grounding::{check_sentence, numbers};
use crate::safety::{doses_in, unsupported_doses};
use crate::sentence::ends_sentence;
use crate::{Reference, without_citations};

/// Shown in place of a sentence whose dose or number no reference states.
const WITHHELD: &str = "（此处的剂量或数字没有参考资料支持，已隐去，请遵医嘱。）";

/// What may be shown of a streaming answer.
#[derive(Debug, Default)]
pub(crate) struct StreamGate {
    /// The sentence that is being written.
    sentence: String,
    /// Bytes of `sentence` that were already released.
    released: usize,
    withheld: bool,
}

/// Text to show now, and the sentence that it completes, if any.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Release {
    pub text: String,
    pub sentences: Vec<String>,
}

impl StreamGate {
    /// Takes the next piece of the answer.
    pub fn push(&mut self, piece: &str, references: &[Reference]) -> Release {
        let mut release = Release::default();
        for c in piece.chars() {
            self.sentence.push(c);
            if ends_sentence(c) {
                self.close(references, &mut release);
            }
        }
        if !holds_back(&self.sentence) {
            release.text.push_str(&self.sentence[self.released..]);
            self.released = self.sentence.len();
        }
        release
    }

    /// Ends the answer; what is left counts as a sentence.
    pub fn finish(&mut self, references: &[Reference]) -> Release {
        let mut release = Release::default();
        if !self.sentence.trim().is_empty() {
            self.close(references, &mut release);
        }
        release
    }

    /// Whether a sentence was withheld so far.
    pub fn withheld(&self) -> bool {
        self.withheld
    }

    /// Every dose and every number of the sentence stands in a reference: a wrong telephone number or blood pressure
    /// harms like a wrong dose.
    fn numbers_are_stated(&self, references: &[Reference]) -> bool {
        let answers = || references.iter().map(|reference| reference.answer.as_str());
        let stated: HashSet<String> = answers().flat_map(numbers).collect();
        // A dose must come with what it is a dose of, so one reference has to support the whole sentence.
        let is_supported = || references.iter().any(|reference| check_sentence(&self.sentence, reference).supported);
        (doses_in(&self.sentence).is_empty() || is_supported())
            && unsupported_doses(&self.sentence, answers()).is_empty()
            && numbers(&without_citations(&self.sentence)).is_subset(&stated)
    }

    fn close(&mut self, references: &[Reference], release: &mut Release) {
        if self.numbers_are_stated(references) {
            release.text.push_str(&self.sentence[self.released..]);
            if !self.sentence.trim().is_empty() {
                release.sentences.push(self.sentence.trim().to_owned());
            }
        } else {
            self.withheld = true;
            release.text.push_str(WITHHELD);
        }
        self.sentence.clear();
        self.released = 0;
    }
}

/// A sentence is held back from its first digit on, because it may turn out to be a dose. Citation marks are not
/// digits in this sense. Chinese numerals stand in too many harmless words to hold every one back; a sentence is
/// held when one is followed by a unit, and what was shown before that is its harmless beginning.
fn holds_back(sentence: &str) -> bool {
    let text = without_citations(sentence);
    let open_mark = text.rfind('[').is_some_and(|open| text[open + 1..].bytes().all(|b| b.is_ascii_digit()));
    let text = if open_mark { &text[..text.rfind('[').unwrap_or(0)] } else { &text };
    text.chars().any(|c| c.is_ascii_digit() || ('０'..='９').contains(&c) || "一二两三四五六七八九十百半".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(answer: &str) -> Reference {
        Reference {
            id: "r".into(),
            question: String::new(),
            answer: answer.into(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score: 1.0,
        }
    }

    fn shown(pieces: &[&str], references: &[Reference]) -> String {
        let mut gate = StreamGate::default();
        let mut text: String = pieces.iter().map(|piece| gate.push(piece, references).text).collect();
        text.push_str(&gate.finish(references).text);
        text
    }

    #[test]
    fn harmless_text_streams_at_once() {
        let mut gate = StreamGate::default();
        assert_eq!(gate.push("多喝水", &[]).text, "多喝水");
        assert_eq!(gate.push("[1]", &[]).text, "[1]");
    }

    #[test]
    fn no_digit_of_an_invented_dose_is_ever_shown() {
        let text = shown(&["口服", "500", "mg", "。", "早睡。"], &[reference("口服药物")]);
        assert_eq!(text, format!("口服{WITHHELD}早睡。"));
    }

    #[test]
    fn a_dose_of_a_reference_is_shown() {
        assert_eq!(shown(&["口服5", "00mg[1]。"], &[reference("每次500mg口服")]), "口服500mg[1]。");
    }

    #[test]
    fn no_invented_telephone_number_is_shown() {
        assert_eq!(shown(&["立即拨打", "16", "0。"], &[reference("立即拨打120。")]), format!("立即拨打{WITHHELD}"));
        assert_eq!(shown(&["立即拨打120。"], &[reference("立即拨打120。")]), "立即拨打120。");
    }

    #[test]
    fn a_sentence_without_its_end_is_checked_too() {
        assert_eq!(shown(&["每天2片"], &[]), WITHHELD);
    }
}
