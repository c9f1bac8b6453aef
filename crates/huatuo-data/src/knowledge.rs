//! From the sample knowledge table to knowledge-graph records: one record for each attribute of each entry, its
//! question worded by templates that vary from entry to entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

/// Wordings of the question that each record carries.
const WORDINGS: usize = 3;

/// Why a knowledge table can't be expanded.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// Not JSON, or not of the table's shape.
    #[error("line {line} of the knowledge table: {error}")]
    Table {
        /// Line number from 1.
        line: usize,
        /// The cause.
        error: serde_json::Error,
    },
    /// The templates are not `{kind: {attribute: [wording, …]}}`.
    #[error("the templates: {0}")]
    Templates(serde_json::Error),
    /// A kind of entry that has no templates.
    #[error("no templates for entries of the kind `{0}`")]
    UnknownKind(String),
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    department: String,
    #[serde(flatten)]
    attributes: Map<String, Value>,
}

#[derive(Serialize)]
struct KnowledgeRecord<'a> {
    id: String,
    questions: Vec<String>,
    answers: [&'a str; 1],
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
    related_diseases: Vec<&'a str>,
}

type Templates = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Expands a table (JSON Lines) with the templates of `kind` (`disease` or `drug`) into JSON Lines in Huatuo-26M's
/// knowledge-graph shape, each naming its `source`. The same input gives the same bytes.
pub fn expand_knowledge(table: &str, kind: &str, templates: &str, source: &str) -> Result<String, KnowledgeError> {
    let templates: Templates = serde_json::from_str(templates).map_err(KnowledgeError::Templates)?;
    let templates = templates.get(kind).ok_or_else(|| KnowledgeError::UnknownKind(kind.to_owned()))?;
    let prefix = if kind == "disease" { "kg" } else { kind };
    let mut lines = String::new();
    for (number, line) in table.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let failed = |error| KnowledgeError::Table { line: number + 1, error };
        let entry: Entry = serde_json::from_str(line).map_err(failed)?;
        for (attribute, answer) in &entry.attributes {
            let (Some(wordings), Some(answer)) = (templates.get(attribute), answer.as_str()) else { continue };
            let record = KnowledgeRecord {
                id: format!("{prefix}:{}:{attribute}", entry.name),
                questions: questions(&entry, attribute, wordings),
                answers: [answer],
                source,
                label: &entry.department,
                related_diseases: if kind == "disease" { vec![&entry.name] } else { Vec::new() },
            };
            lines.push_str(&serde_json::to_string(&record).map_err(failed)?);
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The first wording names the entry, later ones use its other names in turn. Which templates are taken depends on
/// the entry's name, so that the corpus doesn't ask everything in one voice.
fn questions(entry: &Entry, attribute: &str, wordings: &[String]) -> Vec<String> {
    let start = xxh3_64(format!("{}:{attribute}", entry.name).as_bytes()) as usize % wordings.len();
    (0..WORDINGS.min(wordings.len()))
        .map(|i| {
            let name = match i {
                0 => &entry.name,
                _ => entry.aliases.get(i - 1).unwrap_or(&entry.name),
            };
            wordings[(start + i) % wordings.len()].replace("{n}", name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATES: &str = r#"{"disease":{"diet":["{n}吃什么？","{n}忌口？"]}}"#;

    #[test]
    fn an_entry_becomes_one_record_for_each_attribute_with_templates() {
        let table = r#"{"name":"感冒","aliases":["伤风"],"department":"全科","diet":"清淡。","other":"x"}"#;
        let lines = expand_knowledge(table, "disease", TEMPLATES, "测试").unwrap();
        let record: Value = serde_json::from_str(lines.trim()).unwrap();
        assert_eq!(record["id"], "kg:感冒:diet");
        assert_eq!(record["answers"][0], "清淡。");
        assert!(record["questions"][0].as_str().unwrap().contains("感冒"));
        assert!(record["questions"][1].as_str().unwrap().contains("伤风"));
    }

    #[test]
    fn a_broken_table_names_its_line() {
        let error = expand_knowledge("\n{", "disease", TEMPLATES, "测试").unwrap_err();
        assert!(error.to_string().starts_with("line 2"));
    }
}
