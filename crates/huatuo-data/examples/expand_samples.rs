//! Expands the knowledge tables of a checkout into its sample records: `expand_samples ROOT` writes
//! `samples/records/*.jsonl`, `expand_samples ROOT --check` only compares. `cargo xtask samples` runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use huatuo_data::expand_knowledge;
use serde::Deserialize;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (root, is_check) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [root] => (root, false),
        [root, "--check"] => (root, true),
        _ => bail!("usage: expand_samples ROOT [--check]"),
    };
    for (path, text) in expected(Path::new(root))? {
        if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        if is_check {
            bail!("{} is not what the knowledge table gives; run `cargo xtask samples`", path.display());
        }
        std::fs::create_dir_all(path.parent().context("records live in a folder")?)?;
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// The record files with their contents.
fn expected(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let samples = root.join("samples");
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()));
    let templates = read(&samples.join("knowledge/templates.json"))?;
    let wordings = further_wordings(&samples.join("questions"))?;
    let mut files = Vec::new();
    for (folder, kind) in [("diseases", "disease"), ("drugs", "drug")] {
        let table = all_lines(&samples.join("knowledge").join(folder))?;
        let records = expand_knowledge(&table, kind, &templates, "样例知识库（CC0）")?;
        let records = with_wordings(&records, &wordings)?;
        files.push((samples.join(format!("records/knowledge_graph_{folder}.jsonl")), records));
    }
    for (folder, source) in [("consultations", "样例问诊（CC0）"), ("first_aid", "样例急救（CC0）")] {
        let records = first_turns(&all_lines(&samples.join(folder))?, source)?;
        let records = with_wordings(&records, &wordings)?;
        files.push((samples.join(format!("records/{folder}.jsonl")), records));
    }
    Ok(files)
}

/// The lines of all files of a folder, in the order of their names.
fn all_lines(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    paths.sort();
    let mut lines = String::new();
    for path in paths {
        lines.push_str(std::fs::read_to_string(&path)?.trim_end());
        lines.push('\n');
    }
    Ok(lines)
}

/// Wordings of the question that a record carries beside its own, so that patients' words find it.
const FURTHER_WORDINGS: usize = 4;

/// The first written wordings of each record's question, by its id; the rest is for training.
fn further_wordings(folder: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    #[derive(Deserialize)]
    struct Wording {
        id: String,
        question: String,
    }
    let mut wordings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in all_lines(folder)?.lines() {
        let Wording { id, question } = serde_json::from_str(line)?;
        let of_record = wordings.entry(id).or_default();
        if of_record.len() < FURTHER_WORDINGS {
            of_record.push(question);
        }
    }
    Ok(wordings)
}

/// Adds the wordings behind a record's own `questions` or `question`, in the encyclopedia shape's list.
fn with_wordings(lines: &str, wordings: &BTreeMap<String, Vec<String>>) -> Result<String> {
    let mut out = String::new();
    for line in lines.lines() {
        let mut record: serde_json::Value = serde_json::from_str(line)?;
        let fields = record.as_object_mut().context("a record is an object")?;
        let mut questions = match (fields.remove("questions"), fields.remove("question")) {
            (Some(serde_json::Value::Array(questions)), _) => questions,
            (_, question) => question.into_iter().collect(),
        };
        let id = fields["id"].as_str().unwrap_or_default();
        questions.extend(wordings.get(id).into_iter().flatten().map(|wording| wording.as_str().into()));
        fields.insert("questions".to_owned(), questions.into());
        out.push_str(&format!("{record}\n"));
    }
    Ok(out)
}

/// The first question and answer of each consultation. Follow-ups say nothing without them and repeat their subject;
/// they stay in the source files, for training.
fn first_turns(lines: &str, source: &str) -> Result<String> {
    let mut out = String::new();
    for line in lines.lines() {
        let mut record: serde_json::Value = serde_json::from_str(line)?;
        let fields = record.as_object_mut().context("a record is an object")?;
        fields.remove("follow_ups");
        fields.insert("source".to_owned(), source.into());
        out.push_str(&format!("{record}\n"));
    }
    Ok(out)
}
