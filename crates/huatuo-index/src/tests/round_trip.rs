//! What is written comes back, and comes back the same.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{files, open, options, order, read_folder, record, search, vector, writer};
use crate::{
    Decoys, Effort, Index, IndexError, IndexWriter, Kind, MANIFEST_NAME, MAX_RECORD_BYTES, Record, SearchQuery, verify,
};

#[test]
fn every_record_comes_back_once_and_in_the_order_asked_for() {
    let index = open(&files(500, 8));
    let order = order(&index);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..500).collect::<Vec<_>>());
    let rows: Vec<u32> = (0..500).rev().chain([7, 7]).collect();
    let expected: Vec<Record> = rows.iter().map(|row| record(order[*row as usize])).collect();
    assert_eq!(block_on(index.records(&rows)).unwrap().0, expected);
}

#[test]
fn the_same_records_give_the_same_bytes_whatever_the_number_of_threads() {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| files(3000, 8));
    let together = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap().install(|| files(3000, 8));
    assert!(alone == together);
}

#[test]
fn other_files_in_the_folder_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.txt"), "mine").unwrap();
    let manifest = writer(folder.path(), 20, 8).finish().unwrap();
    let mut expected = files(20, 8);
    expected.insert("other.txt".to_owned(), b"mine".to_vec());
    assert_eq!(read_folder(folder.path()), expected);
    let index = block_on(Index::open(Source::directory(folder.path()))).unwrap();
    assert_eq!(*index.manifest(), manifest);
}

#[test]
fn a_build_that_was_left_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    // 16,384 records make a chunk: what is beyond has to be added again.
    drop(writer(folder.path(), 20_000, 4));
    let again = writer(folder.path(), 20_000, 4);
    assert_eq!(IndexWriter::open(options(4), folder.path()).unwrap().resumed(), 16_384);
    again.finish().unwrap();
    assert!(read_folder(folder.path()) == files(20_000, 4));
}

#[test]
fn an_unfinished_build_of_something_else_is_not_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    drop(writer(folder.path(), 20, 4));
    let error = IndexWriter::open(options(5), folder.path()).unwrap_err();
    assert!(matches!(error, IndexError::UnfinishedBuild { .. }), "{error}");
}

#[test]
fn a_large_index_has_several_packs_a_dictionary_tails_and_no_fault() {
    let files = files(40_000, 128);
    let index = open(&files);
    let root = &index.segments[0].root;
    assert!(root.dictionary.is_some() && root.nodes.len() > 50 && root.shards.len() > 1 && root.cells.len() > 1);
    let report = block_on(verify(Source::memory(files.clone()))).unwrap();
    let bytes: usize = files.iter().filter(|(name, _)| *name != MANIFEST_NAME).map(|(_, content)| content.len()).sum();
    assert_eq!((report.records, report.bytes, report.packs), (40_000, bytes as u64, files.len() as u64 - 1));
    assert!(report.entries > 40_000 && report.entries < 60_000, "{report:?}");
}

#[test]
fn a_corpus_of_several_partitions_is_whole() {
    let files = files(140_000, 4);
    let report = block_on(verify(Source::memory(files))).unwrap();
    assert_eq!(report.records, 140_000);
}

#[test]
fn an_empty_index_finds_nothing() {
    let files = files(0, 4);
    let index = open(&files);
    assert_eq!(search(&index, "头痛", Some(&[1.0, 0.0, 0.0, 0.0]), 10).hits, []);
    assert!(matches!(block_on(index.records(&[0])), Err(IndexError::NoSuchRow { row: 0, records: 0 })));
    assert_eq!(block_on(verify(Source::memory(files))).unwrap().blocks, 1);
}

#[test]
fn a_record_that_is_refused_leaves_the_index_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path(), 10, 8);
    let refused = |error| matches!(error, Err(IndexError::DimensionMismatch { expected: 8, found: 7 }));
    assert!(refused(writer.add(&record(10), "头痛", &vector(10, 7))));
    let mut not_finite = vector(10, 8);
    not_finite[5] = f32::NAN;
    assert_eq!(writer.add(&record(10), "头痛", &not_finite), Err(IndexError::NotFinite { position: 5 }));
    let long = Record { answer: "长".repeat(MAX_RECORD_BYTES / 3 + 1), ..Record::default() };
    assert!(matches!(writer.add(&long, "头痛", &vector(10, 8)), Err(IndexError::Limit { .. })));
    writer.finish().unwrap();
    assert_eq!(read_folder(folder.path()), files(10, 8));
}

#[test]
fn a_question_of_another_encoder_is_refused() {
    let index = open(&files(10, 8));
    let query = SearchQuery {
        vector: Some(&[1.0; 9]),
        text: "",
        candidates: 1,
        effort: Effort::default(),
        decoys: Decoys::default(),
    };
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
    let expected_records = block_on(index.records(&[3])).unwrap().0;
    let question = vector(1, 8);
    let query = SearchQuery {
        vector: Some(&question),
        text: "头痛",
        candidates: 5,
        effort: Effort::default(),
        decoys: Decoys::default(),
    };
    // A future that could not move between threads would not compile here.
    let (searching, reading) = (index.search(&query), index.records(&[3]));
    std::thread::scope(|scope| {
        let found = scope.spawn(move || (block_on(searching), block_on(reading)));
        let (outcome, records) = found.join().unwrap();
        assert_eq!((outcome.unwrap().hits, records.unwrap().0), (expected, expected_records));
    });
}
