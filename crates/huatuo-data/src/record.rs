//! One line of a corpus, in any of the shapes that Huatuo-26M and its relatives come in.
//!
//! | shape | `questions` / `question` | `answers` / `answer` |
//! |---|---|---|
//! | encyclopedia | list of lists of wordings | list of texts |
//! | knowledge graph | list of wordings | list of texts |
//! | consultation | list of wordings | list of texts or URLs |
//! | Lite | `question`, one text | `answer`, one text |
//! | shared data | list of wordings | `answer`, one text |

use serde_json::Value;

/// Most text of a record, in bytes of UTF-8: what an index takes in, and far above any consultation.
const MAX_TEXT: usize = 1 << 20;

/// A question with its answer and provenance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceRecord {
    /// Identifier; `<file stem>:<line>` when the line has none.
    pub id: String,
    /// Wordings of the question, the first is the one shown; at least one.
    pub questions: Vec<String>,
    /// The answer; empty when the corpus gives only a URL.
    pub answer: String,
    /// Where the answer can be read, empty when it is in `answer`.
    pub url: String,
    /// Department.
    pub department: String,
    /// Diseases the record is about.
    pub related_diseases: Vec<String>,
    /// Corpus the record comes from.
    pub source: String,
}

/// Why a line or row is no record.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// No question.
    #[error("no question: expected `questions` (a list) or `question` (a text)")]
    NoQuestion,
    /// No answer.
    #[error("no answer: expected `answers` (a list) or `answer` (a text or URL)")]
    NoAnswer,
    /// Bytes that are no UTF-8.
    #[error("not UTF-8 from byte {at} on: convert the file to UTF-8 (is it GBK or UTF-16?)")]
    NotUtf8 {
        /// Bytes before it, in the line or value.
        at: usize,
    },
    /// A line over the limit.
    #[error("the line is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A record over the limit.
    #[error("{bytes} bytes of text, at most {limit} are read")]
    TooMuchText {
        /// Its text in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// A line or row with its number from 1, or why it can't be used.
pub(crate) type Numbered<T> = (usize, Result<T, ParseError>);

/// What a line or row says, before it is known to be a record.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) id: String,
    pub(crate) questions: Vec<String>,
    /// Texts and URLs.
    pub(crate) answers: Vec<String>,
    pub(crate) department: String,
    pub(crate) related_diseases: Vec<String>,
    pub(crate) source: String,
}

impl Fields {
    /// The record, if there is one; `fallback_id` and `corpus` fill an empty `id` and `source`.
    pub(crate) fn into_record(self, fallback_id: &str, corpus: &str) -> Result<SourceRecord, ParseError> {
        let texts = self.questions.iter().chain(&self.answers).chain(&self.related_diseases);
        let bytes = texts.chain([&self.id, &self.department, &self.source]).map(String::len).sum();
        if bytes > MAX_TEXT {
            return Err(ParseError::TooMuchText { bytes, limit: MAX_TEXT });
        }
        if self.questions.is_empty() {
            return Err(ParseError::NoQuestion);
        }
        let (urls, answers): (Vec<_>, Vec<_>) = self.answers.into_iter().partition(|answer| is_url(answer));
        if urls.is_empty() && answers.is_empty() {
            return Err(ParseError::NoAnswer);
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Ok(SourceRecord {
            id: or(self.id, fallback_id),
            questions: self.questions,
            answer: answers.into_iter().next().unwrap_or_default(),
            url: urls.into_iter().next().unwrap_or_default(),
            department: self.department,
            related_diseases: self.related_diseases,
            source: or(self.source, corpus),
        })
    }
}

/// Parses one line; `fallback_id` and `corpus` fill `id` and `source` when the line has none.
///
/// # Errors
/// Says why the line is no record; one with more than 1 MiB of text is none.
pub fn parse_record(line: &str, fallback_id: &str, corpus: &str) -> Result<SourceRecord, ParseError> {
    let value: Value = serde_json::from_str(line).map_err(|error| ParseError::Json(error.to_string()))?;
    if !value.is_object() {
        return Err(ParseError::Json("the line holds another kind of value".to_owned()));
    }
    let either = |many: &str, one: &str| [texts(&value[many]), texts(&value[one])].concat();
    let text = |key: &str| value[key].as_str().unwrap_or_default().trim().to_owned();
    let id = match &value["id"] {
        Value::Number(id) => id.to_string(),
        _ => text("id"),
    };
    let fields = Fields {
        id,
        questions: either("questions", "question"),
        answers: either("answers", "answer"),
        department: [text("label"), text("department")].into_iter().find(|t| !t.is_empty()).unwrap_or_default(),
        related_diseases: match &value["related_diseases"] {
            Value::String(text) => separate(text),
            other => texts(other),
        },
        source: text("source"),
    };
    fields.into_record(fallback_id, corpus)
}

/// All non-empty texts of a value, lists of lists flattened.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => vec![text.trim().to_owned()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Names of one text with separators, as Lite gives them.
pub(crate) fn separate(text: &str) -> Vec<String> {
    let names = text.split([',', '，', '、', ';', '；']).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is_url(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://")) && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<SourceRecord, ParseError> {
        parse_record(line, "file:1", "corpus")
    }

    #[test]
    fn the_encyclopedia_shape_is_flattened() {
        let record = parse(r#"{"questions":[["什么是感冒","感冒是什么"]],"answers":["上呼吸道感染。"]}"#).unwrap();
        assert_eq!(
            (record.questions.len(), record.answer.as_str(), record.id.as_str()),
            (2, "上呼吸道感染。", "file:1")
        );
    }

    #[test]
    fn the_knowledge_graph_shape_is_read() {
        let record = parse(r#"{"questions":["感冒吃什么药"],"answers":["对症用药。"]}"#).unwrap();
        assert_eq!(record.source, "corpus");
    }

    #[test]
    fn a_consultation_with_a_url_links_out() {
        let record = parse(r#"{"questions":["头痛"],"answers":["https://example.org/1"]}"#).unwrap();
        assert_eq!((record.answer.as_str(), record.url.as_str()), ("", "https://example.org/1"));
    }

    #[test]
    fn the_lite_shape_is_read() {
        let line = r#"{"id":7,"question":"q","answer":"a","label":"儿科","related_diseases":"感冒、咳嗽","score":5}"#;
        let record = parse(line).unwrap();
        assert_eq!((record.id.as_str(), record.department.as_str(), record.related_diseases.len()), ("7", "儿科", 2));
    }

    #[test]
    fn what_is_no_record_says_why() {
        assert!(matches!(parse("{"), Err(ParseError::Json(_))));
        assert!(matches!(parse("[1]"), Err(ParseError::Json(_))));
        assert_eq!(parse(r#"{"answer":"a"}"#), Err(ParseError::NoQuestion));
        assert_eq!(parse(r#"{"question":"q","answers":[]}"#), Err(ParseError::NoAnswer));
    }

    #[test]
    fn a_record_over_one_mebibyte_of_text_is_refused() {
        let line = format!(r#"{{"question":"q","answer":"{}"}}"#, "a".repeat(MAX_TEXT));
        assert_eq!(parse(&line), Err(ParseError::TooMuchText { bytes: MAX_TEXT + 1, limit: MAX_TEXT }));
    }
}
