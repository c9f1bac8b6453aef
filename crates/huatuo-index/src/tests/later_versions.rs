//! An index of a later version with kinds of blocks that this reader does not know.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{files, open, search, vector};
use crate::block::seal;
use crate::format::Codec;
use crate::manifest::pack_name;
use crate::{Index, Kind, MANIFEST_NAME, Manifest, PackEntry, verify};

#[test]
fn kinds_that_are_not_known_are_passed_over() {
    let old = files(30, 4);
    let mut manifest = Manifest::parse(&old[MANIFEST_NAME]).unwrap();
    let graph = seal(Kind(900), Codec::Raw, 3, b"\x01\x02\x03").unwrap();
    let pack = PackEntry { name: pack_name(&graph), bytes: graph.len() as u64 };
    manifest.segments[0].packs.push(pack.clone());
    let mut files = old.clone();
    files.insert(pack.name, graph);
    files.insert(MANIFEST_NAME.to_owned(), manifest.to_json().unwrap());

    let index = block_on(Index::open(Source::memory(files.clone()))).unwrap();
    let expected = search(&open(&old), "头痛", Some(&vector(3, 4)), 5).hits;
    assert_eq!(search(&index, "头痛", Some(&vector(3, 4)), 5).hits, expected);
    let blocks = |files| block_on(verify(Source::memory(files))).unwrap().blocks;
    assert_eq!(blocks(files), blocks(old) + 1);
}
