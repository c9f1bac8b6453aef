//! An index of a later version with kinds of blocks that this reader does not know.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{files, only_pack, record, search, vector};
use crate::block::seal;
use crate::format::Codec;
use crate::manifest::pack_name;
use crate::root::{Entry, Root};
use crate::{Index, Kind, MANIFEST_NAME, Manifest, PackEntry, RootLocation, verify};

#[test]
fn kinds_that_are_not_known_are_passed_over() {
    let old = files(30, 4);
    let (name, content) = only_pack(&old);
    let mut manifest = Manifest::parse(&old[MANIFEST_NAME]).unwrap();
    let source = Source::memory(old.clone());
    let (mut root, _): (Root, _) = block_on(crate::reader::fetch_root(&source, &manifest)).unwrap();

    // A second pack with a block of a later kind and the root that lists it; the first keeps all but its root.
    let graph = seal(Kind(900), Codec::Raw, 3, b"\x01\x02\x03").unwrap();
    root.entries
        .insert(0, Entry { kind: Kind(900), pack: 1, offset: 0, length: graph.len() as u32, first: 7, count: 9 });
    let root = root.encode();
    let root = seal(Kind::ROOT, Codec::Raw, root.len(), &root).unwrap();
    manifest.root = RootLocation { pack: 1, offset: graph.len() as u64, length: root.len() as u32 };
    let without_root = content[..content.len() - manifest_root_length(&old)].to_vec();
    let second = [graph, root].concat();
    manifest.packs = [&without_root, &second]
        .map(|content| PackEntry { name: pack_name(content), bytes: content.len() as u64 })
        .to_vec();
    assert_ne!(manifest.packs[0].name, name);
    let files: super::sample::Files = [
        (MANIFEST_NAME.to_owned(), manifest.to_json().unwrap()),
        (manifest.packs[0].name.clone(), without_root),
        (manifest.packs[1].name.clone(), second),
    ]
    .into();

    let index = block_on(Index::open(Source::memory(files.clone()))).unwrap();
    let expected = search(&super::sample::open(&old), "头痛", Some(&vector(3, 4)), 5).hits;
    assert_eq!(search(&index, "头痛", Some(&vector(3, 4)), 5).hits, expected);
    assert_eq!(block_on(index.records(&[29])).unwrap().0, [record(29)]);
    assert_eq!(block_on(verify(Source::memory(files))).unwrap().blocks, 5);
}

/// Bytes of the root at the end of the old pack.
fn manifest_root_length(old: &super::sample::Files) -> usize {
    Manifest::parse(&old[MANIFEST_NAME]).unwrap().root.length as usize
}
