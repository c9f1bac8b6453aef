//! Small corpora made up by arithmetic, the same each time.

use std::collections::BTreeMap;
use std::path::Path;

use huatuo_fetch::Source;
use pollster::block_on;

use crate::{Decoys, Effort, Embed, Index, IndexOptions, IndexWriter, Record, SearchOutcome, SearchQuery};

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
        input: "sample".to_owned(),
    }
}

/// The record that is added as the nth.
pub fn record(n: usize) -> Record {
    let (a, b) = (SYMPTOMS[n % 8], SYMPTOMS[n * n / 3 % 8]);
    let advice: Vec<_> = (0..n % 5 + 1).map(|i| ADVICE[(n / 7 + i * i + n * i) % 6]).collect();
    Record {
        id: format!("r{n}"),
        question: format!("{a}{b}{n}天怎么办？"),
        answer: format!("{}。", advice.join("，")),
        department: if n.is_multiple_of(3) { String::new() } else { "内科".to_owned() },
        related_diseases: vec![a.to_owned(); n % 3],
        source: "sample".to_owned(),
        url: String::new(),
    }
}

pub fn vector(n: usize, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|i| ((n * 31 + i * 17 + n * i) as f32).sin()).collect()
}

pub fn writer(folder: &Path, records: usize, dimensions: usize) -> IndexWriter {
    let mut writer = IndexWriter::open(options(dimensions), folder).unwrap();
    for n in writer.resumed() as usize..records {
        let record = record(n);
        writer.add(&record, &record.question, &vector(n, dimensions)).unwrap();
    }
    writer
}

/// The files of a finished index.
pub fn read_folder(folder: &Path) -> Files {
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(file).collect()
}

pub fn files(records: usize, dimensions: usize) -> Files {
    let folder = tempfile::tempdir().unwrap();
    writer(folder.path(), records, dimensions).finish().unwrap();
    read_folder(folder.path())
}

pub fn open(files: &Files) -> Index {
    block_on(Index::open(Source::memory(files.clone()))).unwrap()
}

pub fn search(index: &Index, text: &str, vector: Option<&[f32]>, candidates: usize) -> SearchOutcome {
    search_with(index, text, vector, candidates, Effort::default())
}

pub fn search_with(
    index: &Index,
    text: &str,
    vector: Option<&[f32]>,
    candidates: usize,
    effort: Effort,
) -> SearchOutcome {
    block_on(index.search(&SearchQuery { vector, text, candidates, effort, decoys: Decoys::default() })).unwrap()
}

/// Which record stands in each row, as the number it was added with.
pub fn order(index: &Index) -> Vec<usize> {
    let rows: Vec<u32> = (0..index.manifest().records).collect();
    let records = block_on(index.records(&rows)).unwrap().0;
    records.iter().map(|record| record.id[1..].parse().unwrap()).collect()
}
