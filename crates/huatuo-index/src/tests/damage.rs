//! Damaged and forged indexes give errors, never panics and never other results.

use huatuo_fetch::Source;
use pollster::block_on;

use super::sample::{Files, files, only_pack, vector};
use crate::block::split;
use crate::format::HEADER_BYTES;
use crate::manifest::pack_name;
use crate::{BlockAt, Hit, Index, IndexError, Kind, MANIFEST_NAME, Manifest, Record, SearchQuery, Statistics, verify};

const RECORDS: usize = 4;
const DIMENSIONS: usize = 3;

/// Everything a reader can get from an index.
fn read(files: &Files, records: usize, dimensions: usize) -> Result<(Vec<Hit>, Vec<Record>), IndexError> {
    let index = block_on(Index::open(Source::memory(files.clone())))?;
    let question = vector(1, dimensions);
    let query = SearchQuery { vector: Some(&question), text: "头痛2天", top_k: 1, candidates: 50 };
    let outcome = block_on(index.search(&query))?;
    let rows: Vec<u32> = (0..records as u32).collect();
    let (records, _): (_, Statistics) = block_on(index.records(&rows))?;
    Ok((outcome.hits, records))
}

/// The files with the only pack replaced, and the manifest naming it as it should be named.
fn with_pack(files: &Files, content: Vec<u8>) -> Files {
    let mut manifest = Manifest::parse(&files[MANIFEST_NAME]).unwrap();
    manifest.packs[0].name = pack_name(&content);
    manifest.packs[0].bytes = content.len() as u64;
    let manifest_json = manifest.to_json().unwrap();
    [(MANIFEST_NAME.to_owned(), manifest_json), (manifest.packs[0].name.clone(), content)].into()
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let files = files(RECORDS, DIMENSIONS);
    let healthy = read(&files, RECORDS, DIMENSIONS).unwrap();
    let (name, content) = only_pack(&files);
    for bit in 0..content.len() * 8 {
        let mut damaged = files.clone();
        damaged.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
        if let Ok(result) = read(&damaged, RECORDS, DIMENSIONS) {
            assert_eq!(result, healthy, "bit {bit} changed the result");
        }
        assert!(block_on(verify(Source::memory(damaged))).is_err(), "bit {bit} passed verification");
    }
}

#[test]
fn flipped_bits_of_a_compressed_index_are_noticed_too() {
    let files = files(1200, 8);
    let healthy = read(&files, 1200, 8).unwrap();
    let (name, content) = only_pack(&files);
    for bit in (0..content.len() * 8).step_by(4999) {
        let mut damaged = files.clone();
        damaged.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
        if let Ok(result) = read(&damaged, 1200, 8) {
            assert_eq!(result, healthy, "bit {bit} changed the result");
        }
    }
}

/// Where the blocks of a pack begin, with the length of each.
fn blocks(content: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < content.len() {
        let at = BlockAt { pack: String::new(), offset: offset as u64, kind: Kind::ROOT };
        let (header, _) = split(&content[offset..], &at).unwrap();
        let length = HEADER_BYTES + header.stored_bytes as usize;
        found.push((offset, length));
        offset += length;
    }
    found
}

#[test]
fn a_forged_block_with_a_right_checksum_never_panics() {
    let files = files(RECORDS, DIMENSIONS);
    let (_, content) = only_pack(&files);
    assert_eq!(blocks(&content).len(), 4); // vectors, terms, texts, root
    for (offset, length) in blocks(&content) {
        for byte in offset + HEADER_BYTES..offset + length {
            for forged_byte in [0, 1, 0x7f, 0x80, 0xff, content[byte] ^ 1] {
                let mut forged = content.clone();
                forged[byte] = forged_byte;
                let checksum = huatuo_fetch::xxh3_64(&forged[offset + HEADER_BYTES..offset + length]);
                forged[offset + 16..offset + 24].copy_from_slice(&checksum.to_le_bytes());
                let forged = with_pack(&files, forged);
                let _ = read(&forged, RECORDS, DIMENSIONS);
                let _ = block_on(verify(Source::memory(forged)));
            }
        }
    }
}

#[test]
fn forged_compressed_payloads_never_panic() {
    let files = files(1200, 8);
    let (_, content) = only_pack(&files);
    for (offset, length) in blocks(&content) {
        for byte in (offset + HEADER_BYTES..offset + length).step_by(length / 40 + 1).chain([offset + 12, offset + 14])
        {
            let mut forged = content.clone();
            forged[byte] ^= 0x55;
            let checksum = huatuo_fetch::xxh3_64(&forged[offset + HEADER_BYTES..offset + length]);
            forged[offset + 16..offset + 24].copy_from_slice(&checksum.to_le_bytes());
            let _ = read(&with_pack(&files, forged), 1200, 8);
        }
    }
}

#[test]
fn a_pack_cut_off_anywhere_is_an_error() {
    let files = files(RECORDS, DIMENSIONS);
    let (name, content) = only_pack(&files);
    for length in 0..content.len() {
        let mut cut = files.clone();
        cut.insert(name.clone(), content[..length].to_vec());
        let error = read(&cut, RECORDS, DIMENSIONS).unwrap_err();
        assert!(matches!(error, IndexError::Truncated { .. }), "{length}: {error}");
        assert!(block_on(verify(Source::memory(cut))).is_err());
    }
}

#[test]
fn a_missing_pack_asks_to_open_the_index_again() {
    let mut files = files(RECORDS, DIMENSIONS);
    let (name, _) = only_pack(&files);
    files.remove(&name);
    let error = read(&files, RECORDS, DIMENSIONS).unwrap_err();
    assert_eq!(error, IndexError::VersionMix { pack: name });
    assert!(error.to_string().contains("open the index again"));
}

#[test]
fn an_error_says_where_it_is() {
    let files = files(RECORDS, DIMENSIONS);
    let (name, mut content) = only_pack(&files);
    content[HEADER_BYTES] ^= 1;
    let mut damaged = files;
    damaged.insert(name.clone(), content);
    let error = read(&damaged, RECORDS, DIMENSIONS).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the VECTORS block at byte 0 of {name} has checksum ")), "{error}");
}

#[test]
fn verification_finds_a_pack_that_is_not_what_its_name_says() {
    let files = files(RECORDS, DIMENSIONS);
    let (name, mut content) = only_pack(&files);
    content.push(0);
    let mut longer = files;
    longer.insert(name, content);
    assert!(matches!(block_on(verify(Source::memory(longer))), Err(IndexError::Pack { .. })));
}
