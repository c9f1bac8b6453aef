//! What is written comes back, and comes back the same.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{files, open, options, record, search, vector, writer};
use crate::{Index, IndexError, IndexWriter, Kind, MANIFEST_NAME, MAX_RECORD_BYTES, Record, verify};

#[test]
fn every_record_comes_back_in_the_order_asked_for() {
    let index = open(&files(50, 8));
    let rows: Vec<u32> = (0..50).rev().chain([7, 7]).collect();
    let expected: Vec<Record> = rows.iter().map(|row| record(*row as usize)).collect();
    assert_eq!(block_on(index.records(&rows)).unwrap().0, expected);
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert_eq!(files(3000, 8), files(3000, 8));
}

#[test]
fn a_directory_holds_the_same_files_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.txt"), "mine").unwrap();
    let manifest = writer(20, 8).finish(folder.path()).unwrap();
    let mut expected = files(20, 8);
    expected.insert("other.txt".to_owned(), b"mine".to_vec());
    let found = std::fs::read_dir(folder.path()).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
    });
    assert_eq!(found.collect::<std::collections::BTreeMap<_, _>>(), expected);
    let index = block_on(Index::open(Source::directory(folder.path()))).unwrap();
    assert_eq!(*index.manifest(), manifest);
    assert_eq!(block_on(index.records(&[19])).unwrap().0, [record(19)]);
}

#[test]
fn a_large_index_has_several_packs_a_dictionary_and_no_fault() {
    let files = files(40_000, 128);
    let index = open(&files);
    assert!(index.manifest().packs.len() > 1);
    assert!(index.directory.dictionary.is_some() && index.directory.vectors.len() == 10 && index.directory.shards > 1);
    let rows: Vec<u32> = (0..40_000).step_by(997).collect();
    let expected: Vec<Record> = rows.iter().map(|row| record(*row as usize)).collect();
    assert_eq!(block_on(index.records(&rows)).unwrap().0, expected);
    let report = block_on(verify(Source::memory(files.clone()))).unwrap();
    let bytes: usize = files.iter().filter(|(name, _)| *name != MANIFEST_NAME).map(|(_, content)| content.len()).sum();
    assert_eq!((report.records, report.bytes, report.packs), (40_000, bytes as u64, files.len() as u64 - 1));
}

#[test]
fn an_empty_index_finds_nothing() {
    let files = IndexWriter::new(options(4)).unwrap().finish_in_memory().unwrap();
    let index = open(&files);
    assert_eq!(search(&index, "头痛", Some(&[1.0, 0.0, 0.0, 0.0]), 10).hits, []);
    assert!(matches!(block_on(index.records(&[0])), Err(IndexError::NoSuchRow { row: 0, records: 0 })));
    assert_eq!(block_on(verify(Source::memory(files))).unwrap().blocks, 1);
}

#[test]
fn a_record_that_is_refused_leaves_the_index_as_it_was() {
    let mut writer = writer(10, 8);
    let refused = |error| matches!(error, Err(IndexError::DimensionMismatch { expected: 8, found: 7 }));
    assert!(refused(writer.add(&record(10), "头痛", &vector(10, 7))));
    let mut not_finite = vector(10, 8);
    not_finite[5] = f32::NAN;
    assert_eq!(writer.add(&record(10), "头痛", &not_finite), Err(IndexError::NotFinite { position: 5 }));
    let long = Record { answer: "长".repeat(MAX_RECORD_BYTES / 3 + 1), ..Record::default() };
    assert!(matches!(writer.add(&long, "头痛", &vector(10, 8)), Err(IndexError::Limit { .. })));
    assert_eq!(writer.finish_in_memory().unwrap(), files(10, 8));
}

#[test]
fn a_question_of_another_encoder_is_refused() {
    let index = open(&files(10, 8));
    let query = crate::SearchQuery { vector: Some(&[1.0; 9]), text: "", top_k: 1, candidates: 1 };
    assert_eq!(block_on(index.search(&query)), Err(IndexError::DimensionMismatch { expected: 8, found: 9 }));
}

#[test]
fn kinds_are_named_in_messages() {
    assert_eq!(format!("{} {}", Kind::TERMS, Kind(99)), "TERMS kind 99");
}

#[test]
fn searches_share_an_index_across_threads() {
    let index = open(&files(50, 8));
    let expected = search(&index, "头痛", Some(&vector(1, 8)), 5).hits;
    let question = vector(1, 8);
    let query = crate::SearchQuery { vector: Some(&question), text: "头痛", top_k: 5, candidates: 5 };
    // A future that could not move between threads would not compile here.
    let (searching, reading) = (index.search(&query), index.records(&[3]));
    std::thread::scope(|scope| {
        let found = scope.spawn(move || (block_on(searching), block_on(reading)));
        let (outcome, records) = found.join().unwrap();
        assert_eq!((outcome.unwrap().hits, records.unwrap().0), (expected, vec![record(3)]));
    });
}
