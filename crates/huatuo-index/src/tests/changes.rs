//! An index that is added to, that records are deleted from, and that is compacted.

use std::path::Path;

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{order, read_folder, record, search, vector, writer};
use crate::{Index, IndexError, IndexWriter, Manifest, compact, delete, verify};

const DIMENSIONS: usize = 8;

fn built(folder: &Path, records: usize) -> Manifest {
    writer(folder, records, DIMENSIONS).finish().unwrap()
}

fn add(folder: &Path, manifest: &Manifest, numbers: std::ops::Range<usize>) -> Manifest {
    let mut writer = IndexWriter::extend(manifest, "more".to_owned(), folder).unwrap();
    for n in numbers {
        writer.add(&record(n), &record(n).question, &vector(n, DIMENSIONS)).unwrap();
    }
    writer.finish().unwrap()
}

fn open(folder: &Path) -> Index {
    block_on(Index::open(Source::directory(folder))).unwrap()
}

/// Number of the record that is nearest to the vector of another.
fn nearest(index: &Index, n: usize) -> String {
    let hits = search(index, "", Some(&vector(n, DIMENSIONS)), 3).hits;
    let best = hits.iter().max_by(|a, b| a.dense.unwrap().total_cmp(&b.dense.unwrap())).unwrap();
    block_on(index.records(&[best.row])).unwrap().0[0].id.clone()
}

#[test]
fn added_records_are_found_beside_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = built(folder.path(), 200);
    let old = open(folder.path());
    let manifest = add(folder.path(), &manifest, 200..260);
    assert_eq!((manifest.segments.len(), manifest.records), (2, 260));
    let index = open(folder.path());
    assert_eq!((nearest(&index, 17), nearest(&index, 230)), ("r17".to_owned(), "r230".to_owned()));
    let hits = search(&index, "头痛217天", None, 1).hits;
    assert_eq!(block_on(index.records(&[hits[0].row])).unwrap().0[0].id, "r217");
    assert_eq!(nearest(&old, 17), "r17", "a reader of the old manifest goes on");
    assert_eq!(block_on(verify(Source::directory(folder.path()))).unwrap().records, 260);
}

#[test]
fn a_deleted_record_is_never_returned_again() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = built(folder.path(), 200);
    add(folder.path(), &manifest, 200..260);
    let gone = ["r17", "r230", "nobody"].map(str::to_owned);
    assert_eq!(block_on(delete(folder.path(), &gone)).unwrap(), ["nobody"]);
    assert_eq!(block_on(delete(folder.path(), &["r18".to_owned()])).unwrap(), [""; 0]);
    let index = open(folder.path());
    assert_eq!(index.live_records(), 257);
    for n in [17, 18, 230] {
        assert_ne!(nearest(&index, n), format!("r{n}"));
        for candidates in [1, 300] {
            let hits = search(&index, &record(n).question, Some(&vector(n, DIMENSIONS)), candidates).hits;
            let rows: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
            let found = block_on(index.records(&rows)).unwrap().0;
            assert!(found.iter().all(|record| record.id != format!("r{n}")));
        }
    }
    let rows = 0..index.manifest().records;
    let refused = rows.filter(|row| matches!(block_on(index.records(&[*row])), Err(IndexError::NoSuchRow { .. })));
    assert_eq!(refused.count(), 3);
    assert_eq!(block_on(verify(Source::directory(folder.path()))).unwrap().deleted, 3);
}

#[test]
fn compacting_keeps_all_that_is_left_and_removes_the_bytes_of_what_was_deleted() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manifest = built(folder.path(), 200);
    add(folder.path(), &manifest, 200..260);
    block_on(delete(folder.path(), &["r17".to_owned()])).unwrap();
    let manifest = block_on(compact(folder.path(), out.path())).unwrap();
    assert_eq!((manifest.segments.len(), manifest.records), (1, 259));
    let index = open(out.path());
    let mut found = order(&index);
    found.sort_unstable();
    assert_eq!(found, (0..260).filter(|n| *n != 17).collect::<Vec<_>>());
    assert_eq!((nearest(&index, 18), nearest(&index, 230)), ("r18".to_owned(), "r230".to_owned()));
    let question = record(17).question.into_bytes();
    let holds = |files: super::sample::Files| {
        files.values().any(|file| file.windows(question.len()).any(|bytes| bytes == question))
    };
    // Small blocks of text are not compressed, so the question stands there as it is.
    assert!(!holds(read_folder(out.path())));
    block_on(verify(Source::directory(out.path()))).unwrap();
}

#[test]
fn words_weigh_the_same_after_compacting() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    built(folder.path(), 300);
    block_on(compact(folder.path(), out.path())).unwrap();
    let scores = |folder: &Path| {
        let index = open(folder);
        let hits = search(&index, "失眠 30 天", None, 1000).hits;
        let rows: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
        let records = block_on(index.records(&rows)).unwrap().0;
        let mut scores: Vec<(String, u32)> =
            records.into_iter().map(|r| r.id).zip(hits.iter().map(|hit| hit.bm25.unwrap().to_bits())).collect();
        scores.sort();
        scores
    };
    assert_eq!(scores(folder.path()), scores(out.path()));
}
