//! Small corpora made up by arithmetic, the same each time.

use std::collections::BTreeMap;

use huatuo_fetch::Source;
use pollster::block_on;

use crate::{Embed, Index, IndexOptions, IndexWriter, Record, SearchOutcome, SearchQuery};

pub type Files = BTreeMap<String, Vec<u8>>;

const SYMPTOMS: [&str; 8] = ["头痛", "咳嗽", "发热", "失眠", "腹泻", "胸闷", "皮疹", "乏力"];
const ADVICE: [&str; 6] =
    ["注意休息，多喝温水", "及时到医院就诊", "清淡饮食", "查血常规 CT", "遵医嘱用药", "观察体温变化"];

pub fn options(dimensions: usize) -> IndexOptions {
    IndexOptions {
        dimensions,
        embed: Embed::Question,
        encoder_name: "made-up".to_owned(),
        encoder_sha256: "00".repeat(32),
    }
}

pub fn record(row: usize) -> Record {
    let (a, b) = (SYMPTOMS[row % 8], SYMPTOMS[row * row / 3 % 8]);
    let advice: Vec<_> = (0..row % 5 + 1).map(|n| ADVICE[(row / 7 + n * n + row * n) % 6]).collect();
    Record {
        id: format!("r{row}"),
        question: format!("{a}{b}{row}天怎么办？"),
        answer: format!("{}。", advice.join("，")),
        department: if row.is_multiple_of(3) { String::new() } else { "内科".to_owned() },
        related_diseases: vec![a.to_owned(); row % 3],
        source: "sample".to_owned(),
        url: String::new(),
    }
}

pub fn vector(row: usize, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|n| ((row * 31 + n * 17 + row * n) as f32).sin()).collect()
}

pub fn writer(records: usize, dimensions: usize) -> IndexWriter {
    let mut writer = IndexWriter::new(options(dimensions)).unwrap();
    for row in 0..records {
        let record = record(row);
        writer.add(&record, &record.question, &vector(row, dimensions)).unwrap();
    }
    writer
}

pub fn files(records: usize, dimensions: usize) -> Files {
    writer(records, dimensions).finish_in_memory().unwrap()
}

pub fn open(files: &Files) -> Index {
    block_on(Index::open(Source::memory(files.clone()))).unwrap()
}

pub fn search(index: &Index, text: &str, vector: Option<&[f32]>, candidates: usize) -> SearchOutcome {
    block_on(index.search(&SearchQuery { vector, text, top_k: 1, candidates })).unwrap()
}

/// The one pack of a small index.
pub fn only_pack(files: &Files) -> (String, Vec<u8>) {
    let mut packs = files.iter().filter(|(name, _)| name.ends_with(".pack"));
    let (name, content) = packs.next().unwrap();
    assert!(packs.next().is_none());
    (name.clone(), content.clone())
}
