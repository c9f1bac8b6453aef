//! The patient's question, cleaned and bounded before anything else sees it.

/// Longest question that is answered, in characters: a page of text, several times what a patient types into a
/// consultation, and little enough to stand beside the references in a small model's context.
pub const MAX_QUESTION_CHARS: usize = 1000;

/// A question that is not empty, not too long and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question(String);

/// Why a text can't be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Nothing but white space or control characters.
    #[error("the question is empty: type what you want to know")]
    Empty,
    /// More characters than [`MAX_QUESTION_CHARS`].
    #[error("the question has {chars} characters, at most {MAX_QUESTION_CHARS} can be answered: shorten it")]
    TooLong {
        /// Characters after cleaning.
        chars: usize,
    },
}

impl Question {
    /// Cleans a text: control and invisible formatting characters become spaces, runs of white space one space.
    pub fn new(text: &str) -> Result<Self, QuestionError> {
        let visible: String = text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c }).collect();
        let cleaned = visible.split_whitespace().collect::<Vec<_>>().join(" ");
        let chars = cleaned.chars().count();
        match chars {
            0 => Err(QuestionError::Empty),
            _ if chars > MAX_QUESTION_CHARS => Err(QuestionError::TooLong { chars }),
            _ => Ok(Self(cleaned)),
        }
    }

    /// The cleaned text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Zero-width and direction characters, which can hide text from the reader of a page.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(Question::new("头\u{0}痛\t\u{7}怎么办\u{200b}").unwrap().text(), "头 痛 怎么办");
    }

    #[test]
    fn an_empty_question_is_refused() {
        assert_eq!(Question::new(" \u{1}\n"), Err(QuestionError::Empty));
    }

    #[test]
    fn a_question_of_ten_thousand_characters_is_refused() {
        assert_eq!(Question::new(&"痛".repeat(10_000)), Err(QuestionError::TooLong { chars: 10_000 }));
    }

    #[test]
    fn emoji_and_markup_stay_text() {
        assert_eq!(Question::new("<b>头痛</b>😷?").unwrap().text(), "<b>头痛</b>😷?");
    }
}
