//! Archives of released format versions, opened for ever. A later version adds a folder and changes none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{record, search, vector, writer};
use crate::{Index, IndexWriter, delete, verify};

const DIMENSIONS: usize = 8;

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version)
}

/// Run by hand, with `--ignored`, when a version is frozen.
#[test]
#[ignore = "writes the archive that the other test reads"]
fn write_version_1() {
    let folder = folder("v1");
    assert!(!folder.exists(), "an archive of a released version is never written again");
    let manifest = writer(&folder, 150, DIMENSIONS).finish().unwrap();
    let mut more = IndexWriter::extend(&manifest, "more".to_owned(), &folder).unwrap();
    for n in 150..180 {
        more.add(&record(n), &record(n).question, &vector(n, DIMENSIONS)).unwrap();
    }
    more.finish().unwrap();
    block_on(delete(&folder, &["r17".to_owned(), "r171".to_owned()])).unwrap();
}

#[test]
fn archives_of_version_1_are_read() {
    let index = block_on(Index::open(Source::directory(folder("v1")))).unwrap();
    assert_eq!((index.manifest().records, index.live_records()), (180, 178));
    let live: Vec<u32> = (0..180).filter(|row| block_on(index.records(&[*row])).is_ok()).collect();
    let (records, _) = block_on(index.records(&live)).unwrap();
    let by_id: BTreeMap<String, u32> = records.iter().map(|record| record.id.clone()).zip(live).collect();
    for n in (0..180).filter(|n| ![17, 171].contains(n)) {
        let row = by_id[&format!("r{n}")];
        assert_eq!(block_on(index.records(&[row])).unwrap().0, [record(n)]);
        let hits = search(&index, &record(n).question, Some(&vector(n, DIMENSIONS)), 180).hits;
        let own = hits.iter().find(|hit| hit.row == row).unwrap();
        assert!(own.dense.unwrap() > 0.999 && own.bm25_coverage.unwrap() > 0.999, "{own:?}");
    }
    assert_eq!(block_on(verify(Source::directory(folder("v1")))).unwrap().deleted, 2);
}
