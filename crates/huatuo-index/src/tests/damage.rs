//! Damaged and forged indexes give errors, never panics and never other results.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{Files, files, vector};
use crate::block::split;
use crate::cell::{cell_bytes, renew_checksum};
use crate::format::HEADER_BYTES;
use crate::manifest::pack_name;
use crate::rabitq::split_mix;
use crate::{
    BlockAt, Decoys, Effort, Hit, Index, IndexError, Kind, MANIFEST_NAME, Manifest, Record, SearchQuery, verify,
};

const RECORDS: usize = 4;
const DIMENSIONS: usize = 3;

/// Everything a reader can get from an index.
fn read(files: &Files, records: usize, dimensions: usize) -> Result<(Vec<Hit>, Vec<Record>), IndexError> {
    let index = block_on(Index::open(Source::memory(files.clone())))?;
    let question = vector(1, dimensions);
    let query = SearchQuery {
        vector: Some(&question),
        text: "头痛2天",
        candidates: 50,
        effort: Effort::default(),
        decoys: Decoys::default(),
    };
    let outcome = block_on(index.search(&query))?;
    let rows: Vec<u32> = (0..records as u32).collect();
    let (records, _) = block_on(index.records(&rows))?;
    Ok((outcome.hits, records))
}

fn pack_names(files: &Files) -> Vec<String> {
    Manifest::parse(&files[MANIFEST_NAME]).unwrap().packs().map(|pack| pack.name.clone()).collect()
}

/// The files with a pack replaced, and the manifest naming it as it should be named.
fn with_pack(files: &Files, name: &str, content: Vec<u8>) -> Files {
    let mut manifest = Manifest::parse(&files[MANIFEST_NAME]).unwrap();
    let mut replaced = files.clone();
    replaced.remove(name);
    for pack in manifest.segments.iter_mut().flat_map(|segment| &mut segment.packs).filter(|pack| pack.name == name) {
        pack.name = pack_name(&content);
        pack.bytes = content.len() as u64;
    }
    replaced.insert(MANIFEST_NAME.to_owned(), manifest.to_json().unwrap());
    replaced.insert(pack_name(&content), content);
    replaced
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let files = files(RECORDS, DIMENSIONS);
    let healthy = read(&files, RECORDS, DIMENSIONS).unwrap();
    for name in pack_names(&files) {
        for bit in 0..files[&name].len() * 8 {
            let mut damaged = files.clone();
            damaged.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            if let Ok(result) = read(&damaged, RECORDS, DIMENSIONS) {
                assert_eq!(result, healthy, "bit {bit} of {name} changed the result");
            }
            assert!(block_on(verify(Source::memory(damaged))).is_err(), "bit {bit} of {name} passed verification");
        }
    }
}

#[test]
fn a_hundred_thousand_random_corruptions_are_found_or_harmless() {
    let files = files(300, 8);
    let healthy = read(&files, 300, 8).unwrap();
    let names: Vec<&String> = files.keys().collect();
    let (mut state, mut harmless) = (5, 0);
    let mut number = |below: usize| (split_mix(&mut state) % below as u64) as usize;
    let mut damaged = files.clone();
    for round in 0..100_000 {
        let name = names[number(names.len())];
        let length = files[name].len();
        let content = damaged.get_mut(name).unwrap();
        match round % 4 {
            0 => content[number(length)] ^= 1 << number(8),
            1 => content.truncate(number(length)),
            2 => {
                let (from, count) = (number(length), number(64));
                (from..(from + count).min(length)).for_each(|at| content[at] = number(256) as u8);
            }
            // A stretch of the same file in the place of another.
            _ => {
                let count = number(length.min(600)) + 1;
                let (from, to) = (number(length - count + 1), number(length - count + 1));
                content.copy_within(from..from + count, to);
            }
        }
        if let Ok(result) = read(&damaged, 300, 8) {
            assert_eq!(result, healthy, "round {round} changed the result");
            harmless += 1;
        }
        damaged.insert(name.clone(), files[name].clone());
    }
    assert!(harmless < 60_000, "{harmless} were not even seen: the index is not read whole");
}

/// Where the blocks of a pack begin, with the length of each.
fn blocks(content: &[u8]) -> Vec<(usize, usize, Kind)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < content.len() {
        let at = BlockAt { pack: String::new(), offset: offset as u64, kind: Kind::ROOT };
        let (header, _) = split(&content[offset..], &at).unwrap();
        let length = HEADER_BYTES + header.stored_bytes as usize;
        found.push((offset, length, header.kind));
        offset += length;
    }
    found
}

/// Makes the checksums of a block right again.
fn reseal(content: &mut [u8], (offset, length, kind): (usize, usize, Kind), dimensions: usize) {
    if kind == Kind::CELLS {
        let cells = content[offset + HEADER_BYTES..offset + length].chunks_exact_mut(cell_bytes(dimensions, 16));
        cells.zip(0..).for_each(|(cell, row)| renew_checksum(row, cell));
    }
    let checksum = huatuo_fetch::xxh3_64(&content[offset + HEADER_BYTES..offset + length]);
    content[offset + 16..offset + 24].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_forged_block_with_right_checksums_never_panics() {
    let files = files(RECORDS, DIMENSIONS);
    let mut kinds = Vec::new();
    for name in pack_names(&files) {
        for block in blocks(&files[&name]) {
            kinds.push(block.2);
            for byte in block.0 + HEADER_BYTES..block.0 + block.1 {
                for forged_byte in [0, 1, 0x7f, 0x80, 0xff, files[&name][byte] ^ 1] {
                    let mut forged = files[&name].clone();
                    forged[byte] = forged_byte;
                    reseal(&mut forged, block, DIMENSIONS);
                    let forged = with_pack(&files, &name, forged);
                    let _ = read(&forged, RECORDS, DIMENSIONS);
                    let _ = block_on(verify(Source::memory(forged)));
                }
            }
        }
    }
    kinds.dedup();
    assert_eq!(kinds, [Kind::TEXTS, Kind::LISTS, Kind::TERMS, Kind::CELLS, Kind::NODES, Kind::ROOT]);
}

#[test]
fn forged_payloads_of_a_larger_index_never_panic() {
    let files = files(1200, 8);
    for name in pack_names(&files) {
        for block in blocks(&files[&name]) {
            let bytes = (block.0 + HEADER_BYTES..block.0 + block.1).step_by(block.1 / 10 + 1);
            for byte in bytes.chain([block.0 + 12, block.0 + 14]) {
                let mut forged = files[&name].clone();
                forged[byte] ^= 0x55;
                reseal(&mut forged, block, 8);
                let _ = read(&with_pack(&files, &name, forged), 1200, 8);
            }
        }
    }
}

#[test]
fn a_pack_cut_off_anywhere_is_an_error() {
    let files = files(RECORDS, DIMENSIONS);
    for name in pack_names(&files) {
        for length in 0..files[&name].len() {
            let mut cut = files.clone();
            cut.get_mut(&name).unwrap().truncate(length);
            let error = read(&cut, RECORDS, DIMENSIONS).unwrap_err();
            assert!(matches!(error, IndexError::Truncated { .. }), "{length}: {error}");
            assert!(block_on(verify(Source::memory(cut))).is_err());
        }
    }
}

#[test]
fn a_missing_pack_asks_to_open_the_index_again() {
    let files = files(RECORDS, DIMENSIONS);
    for name in pack_names(&files) {
        let mut without = files.clone();
        without.remove(&name);
        let error = read(&without, RECORDS, DIMENSIONS).unwrap_err();
        assert_eq!(error, IndexError::VersionMix { pack: name });
        assert!(error.to_string().contains("open the index again"));
    }
}

#[test]
fn swapped_packs_are_found() {
    let files = files(1200, 8);
    let names = pack_names(&files);
    for (a, b) in names.iter().zip(&names[1..]) {
        let mut swapped = files.clone();
        swapped.insert(a.clone(), files[b].clone());
        swapped.insert(b.clone(), files[a].clone());
        assert!(read(&swapped, 1200, 8).is_err());
        assert!(matches!(
            block_on(verify(Source::memory(swapped))),
            Err(IndexError::Pack { .. }
                | IndexError::Truncated { .. }
                | IndexError::BadMagic { .. }
                | IndexError::WrongKind { .. }
                | IndexError::Checksum { .. })
        ));
    }
}

#[test]
fn an_error_says_where_it_is() {
    let files = files(RECORDS, DIMENSIONS);
    let name = pack_names(&files).remove(0);
    let mut content = files[&name].clone();
    content[HEADER_BYTES] ^= 1;
    let mut damaged = files;
    damaged.insert(name.clone(), content);
    let error = read(&damaged, RECORDS, DIMENSIONS).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the TEXTS block at byte 0 of {name} has checksum ")), "{error}");
}

#[test]
fn verification_finds_a_pack_that_is_not_what_its_name_says() {
    let files = files(RECORDS, DIMENSIONS);
    for name in pack_names(&files) {
        let mut longer = files.clone();
        longer.get_mut(&name).unwrap().push(0);
        assert!(matches!(block_on(verify(Source::memory(longer))), Err(IndexError::Pack { .. })));
    }
}
