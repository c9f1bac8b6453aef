//! One line of a corpus, in any of the shapes that Huatuo-26M and its relatives come in.
//!
//! | shape | `questions` / `question` | `answers` / `answer` |
//! |---|---|---|
//! | encyclopedia | list of lists of wordings | list of texts |
//! | knowledge graph | list of wordings | list of texts |
//! | consultation | list of wordings | list of texts or URLs |
//! | Lite | `question`, one text | `answer`, one text |
//! | shared data | list of wordings | `answer`, one text |

use serde::Deserialize;
use serde_json::Value;

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

/// A question of an evaluation with the record it should find.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Query {
    /// The question.
    pub question: String,
    /// Identifier of the record.
    pub id: String,
}

/// Why a line is no record.
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
}

/// Parses one line; `fallback_id` and `corpus` fill `id` and `source` when the line has none.
pub fn parse_record(line: &str, fallback_id: &str, corpus: &str) -> Result<SourceRecord, ParseError> {
    let value: Value = serde_json::from_str(line).map_err(|error| ParseError::Json(error.to_string()))?;
    if !value.is_object() {
        return Err(ParseError::Json("the line holds another kind of value".to_owned()));
    }
    let mut questions = texts(&value["questions"]);
    questions.extend(texts(&value["question"]));
    if questions.is_empty() {
        return Err(ParseError::NoQuestion);
    }
    let mut answers = texts(&value["answers"]);
    answers.extend(texts(&value["answer"]));
    let (urls, answers): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| is_url(answer));
    if urls.is_empty() && answers.is_empty() {
        return Err(ParseError::NoAnswer);
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default().trim().to_owned();
    let id = match &value["id"] {
        Value::String(id) if !id.trim().is_empty() => id.trim().to_owned(),
        Value::Number(id) => id.to_string(),
        _ => fallback_id.to_owned(),
    };
    Ok(SourceRecord {
        id,
        questions,
        answer: answers.into_iter().next().unwrap_or_default(),
        url: urls.into_iter().next().unwrap_or_default(),
        department: [text("label"), text("department")].into_iter().find(|t| !t.is_empty()).unwrap_or_default(),
        related_diseases: related(&value["related_diseases"]),
        source: if text("source").is_empty() { corpus.to_owned() } else { text("source") },
    })
}

/// All non-empty texts of a value, lists of lists flattened.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => vec![text.trim().to_owned()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Lite gives a list, or one text with separators.
fn related(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text
            .split([',', '，', '、', ';', '；'])
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
            .collect(),
        other => texts(other),
    }
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
}
