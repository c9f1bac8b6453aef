//! Measures a cleaner on record files: `measure_cleaning pairs N FILE…` prints N of the repetitions dropped beside what
//! was kept; `measure_cleaning recall FILE…` counts how many changed copies of the records are found.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use huatuo_data::{Cleaner, RecordReader, SourceRecord};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first().map(|(mode, rest)| (mode.as_str(), rest)) {
        Some(("pairs", [count, files @ ..])) => pairs(count.parse()?, files),
        Some(("recall", files)) => recall(files),
        _ => Err("usage: measure_cleaning pairs N FILE… | recall FILE…".into()),
    }
}

fn read(files: &[String]) -> Result<Vec<SourceRecord>, Box<dyn std::error::Error>> {
    let paths: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let started = Instant::now();
    let mut reader = RecordReader::open(&paths, 1.0)?;
    let records = reader.by_ref().collect::<Result<Vec<_>, _>>()?;
    let speed = reader.lines() as f64 / started.elapsed().as_secs_f64();
    println!("{} records, {} malformed lines, {speed:.0} lines/s", records.len(), reader.malformed_count());
    Ok(records)
}

fn pairs(count: usize, files: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let records = read(files)?;
    let characters: usize = records.iter().map(|record| record.answer.chars().count()).sum();
    let (mut cleaner, mut kept, mut pairs) = (Cleaner::default(), Vec::new(), Vec::new());
    let started = Instant::now();
    let outcomes: Vec<_> = records.iter().map(|record| cleaner.clean(record.clone())).collect();
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} records/s of {} characters an answer", records.len() as f64 / seconds, characters / records.len());
    println!("{}", cleaner.report());
    for (record, outcome) in records.iter().zip(outcomes) {
        match outcome {
            Ok(cleaned) => kept.push(cleaned),
            Err(reason) => pairs.extend(reason.kept().map(|of| (record, reason, of as usize))),
        }
    }
    for (dropped, reason, of) in pairs.iter().step_by((pairs.len() / count.max(1)).max(1)).take(count) {
        println!("--- {}, {}\n{:?}\n{}", dropped.id, reason.name(), dropped.questions, dropped.answer);
        println!("=== {}\n{:?}\n{}", kept[*of].id, kept[*of].questions, kept[*of].answer);
    }
    Ok(())
}

/// Records of which copies are changed.
const CHANGED: usize = 3000;

/// A change to an answer.
type Change = fn(&str) -> String;

/// Changes that leave a record what it is, then changes that make it another.
const CHANGES: [(&str, Change); 9] = [
    ("punctuation", |text| text.replace('，', ",").replace('。', " 。")),
    ("markup", |text| format!("<p>{}</p>", text.replace('，', "，<br/>"))),
    ("greeting", |text| format!("您好！{text}")),
    ("farewell", |text| format!("{text}祝你健康！")),
    ("one character lost", |text| without_character(text, 2)),
    ("two characters lost", |text| without_character(&without_character(text, 3), 5)),
    ("other: number", |text| format!("{text}每日25次。")),
    ("other: negation", |text| format!("不{text}")),
    ("other: half of it", |text| text.chars().take(text.chars().count() / 2).collect()),
];

fn without_character(text: &str, part: usize) -> String {
    let at = text.chars().count() / part;
    text.chars().enumerate().filter(|(n, _)| *n != at).map(|(_, c)| c).collect()
}

fn recall(files: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut cleaner = Cleaner::default();
    let kept = read(files)?.into_iter().filter_map(|record| cleaner.clean(record).ok());
    let kept: Vec<_> = kept.filter(|record| !record.answer.is_empty()).take(CHANGED).collect();
    for (name, change) in CHANGES {
        let mut found: HashMap<&str, (usize, usize)> = HashMap::new();
        for record in &kept {
            let class = match record.answer.chars().count() {
                0..60 => "answer of < 60 characters",
                60..200 => "answer of 60 to 199",
                _ => "answer of 200 and more",
            };
            // Each in a cleaner of its own, so that changed copies don't meet each other.
            let mut cleaner = Cleaner::default();
            let repeated = cleaner.clean(record.clone()).is_ok()
                && cleaner.clean(SourceRecord { answer: change(&record.answer), ..record.clone() }).is_err();
            let (all, hits) = found.entry(class).or_default();
            (*all, *hits) = (*all + 1, *hits + usize::from(repeated));
        }
        let mut rows: Vec<_> = found.into_iter().collect();
        rows.sort_unstable();
        let rows: Vec<_> = rows.iter().map(|(class, (all, hits))| format!("{class}: {hits} of {all}")).collect();
        println!("{name:20} {}", rows.join(", "));
    }
    Ok(())
}
