//! A second visit with blocks that were kept on the device.

use std::path::Path;

use huatuo_fetch::{KeptFile, Source};
use pollster::block_on;

use super::sample::{Files, files, search, vector};
use crate::{BlockStore, Index, MANIFEST_NAME, Record, SearchOutcome, Statistics};

const QUESTION: &str = "头痛三天";
const FILES: [&str; 2] = ["0.blocks", "1.blocks"];

fn store(folder: &Path) -> BlockStore {
    let files = FILES.map(|name| KeptFile::open(&folder.join(name)).unwrap());
    BlockStore::open(files, 64 << 20).unwrap()
}

/// Asks a question as one visit does; gives what was found and what all of it read.
fn visit(files: &Files, folder: &Path) -> (SearchOutcome, Vec<Record>, Statistics, u64) {
    let source = Source::memory(files.clone());
    let index = block_on(Index::open_with_store(source.clone(), 64 << 20, Some(store(folder)))).unwrap();
    let found = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    let rows: Vec<u32> = found.hits.iter().map(|hit| hit.row).collect();
    let (records, texts) = block_on(index.records(&rows)).unwrap();
    let mut cost = index.opening();
    cost += found.statistics;
    cost += texts;
    let read = source.counters().bytes;
    assert_eq!(read, cost.bytes);
    (found, records, cost, read)
}

#[test]
fn a_second_visit_reads_the_manifest_alone() {
    let (files, folder) = (files(5000, 16), tempfile::tempdir().unwrap());
    let (first, first_records, cold, _) = visit(&files, folder.path());
    assert!(cold.stored_bytes == 0 && cold.bytes > 20_000);
    let (second, records, warm, read) = visit(&files, folder.path());
    assert_eq!((second.hits, records), (first.hits, first_records));
    assert_eq!((read, warm.requests), (files[MANIFEST_NAME].len() as u64, 1));
    // Parts between blocks were read in vain.
    assert!(warm.stored_bytes > 0 && warm.stored_bytes <= cold.bytes);
}

#[test]
fn what_was_damaged_on_the_device_is_read_anew() {
    let (files, folder) = (files(5000, 16), tempfile::tempdir().unwrap());
    let (first, first_records, ..) = visit(&files, folder.path());
    let kept = FILES.map(|name| folder.path().join(name)).into_iter();
    let path = kept.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (500..bytes.len()).step_by(997) {
        bytes[at] ^= 0x10;
    }
    std::fs::write(&path, bytes).unwrap();
    let (second, records, cost, _) = visit(&files, folder.path());
    assert_eq!((second.hits, records), (first.hits, first_records));
    assert!(cost.requests > 1);
}

#[test]
fn blocks_of_another_index_are_never_taken_for_this_one_s() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (files(1000, 16), files(5000, 16));
    visit(&small, folder.path());
    let (found, records, ..) = visit(&large, folder.path());
    let other = tempfile::tempdir().unwrap();
    let (expected, expected_records, ..) = visit(&large, other.path());
    assert_eq!((found.hits, records), (expected.hits, expected_records));
}

#[test]
fn a_store_can_be_emptied_while_the_index_is_in_use() {
    let (files, folder) = (files(1000, 16), tempfile::tempdir().unwrap());
    let index = block_on(Index::open_with_store(Source::memory(files), 0, Some(store(folder.path())))).unwrap();
    let before = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    assert!(index.store_state().unwrap().bytes > 10_000);
    index.clear_store().unwrap();
    assert!(index.store_state().unwrap().bytes < 100);
    let after = search(&index, QUESTION, Some(&vector(5, 16)), 10);
    assert_eq!((after.hits, after.statistics.stored_bytes), (before.hits, 0));
}
