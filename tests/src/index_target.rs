//! What is done with an index of unknown bytes. Checksums would keep a fuzzer out of all that lies behind them, so they are made
//! right first: what is tried is what a host could serve that means harm.

use std::collections::BTreeMap;

use huatuo_fetch::{Source, xxh3_64, xxh3_128_hex};
use huatuo_index::{Decoys, Effort, Index, MANIFEST_NAME, SearchQuery, verify};
use pollster::block_on;
use serde_json::Value;

/// Bytes of a block's header, and where in it the length of the payload and its checksum stand (`SPEC.md`, "Blocks").
const HEADER: usize = 32;
const STORED_BYTES: std::ops::Range<usize> = 8..12;
const CHECKSUM: std::ops::Range<usize> = 16..24;
/// The kind of blocks that are read cell by cell, and bytes of a cell beside its vector's numbers and neighbours.
const CELLS: u8 = 5;
const CELL_BYTES: usize = 24;
/// Neighbours that the writer gives a row.
const NEIGHBOURS: usize = 16;

/// An index: the manifest's length in four bytes, the manifest, and its packs behind one another.
pub fn index(bytes: &[u8]) {
    let Some(files) = files(bytes) else { return };
    let _ = block_on(verify(Source::memory(files.clone())));
    let Ok(index) = block_on(Index::open(Source::memory(files))) else { return };
    let vector = vec![0.5; index.manifest().dimensions.min(64)];
    let vector = (vector.len() == index.manifest().dimensions).then_some(vector.as_slice());
    let query =
        SearchQuery {
            vector, text: "头痛2天", candidates: 20, effort: Effort::default(), decoys: Decoys::default()
        };
    let Ok(outcome) = block_on(index.search(&query)) else { return };
    let rows: Vec<u32> = outcome.hits.iter().map(|hit| hit.row).collect();
    let _ = block_on(index.records(&rows));
}

/// One input of an index's files, for the corpus.
pub fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let manifest = &files[MANIFEST_NAME];
    let names: Value = serde_json::from_slice(manifest).expect("a manifest is JSON");
    let packs = packs_of(&names).map(|pack| files[pack["name"].as_str().expect("a pack has a name")].as_slice());
    let length = (manifest.len() as u32).to_le_bytes();
    [&length[..], manifest].into_iter().chain(packs).collect::<Vec<_>>().concat()
}

fn packs_of(manifest: &Value) -> impl Iterator<Item = &Value> {
    let segments = manifest["segments"].as_array().into_iter().flatten();
    segments.flat_map(|segment| segment["packs"].as_array().into_iter().flatten())
}

fn files(bytes: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (manifest, mut rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut files = BTreeMap::new();
    let Ok(mut parsed) = serde_json::from_slice::<Value>(manifest) else {
        files.insert(MANIFEST_NAME.to_owned(), manifest.to_vec());
        return Some(files);
    };
    let dimensions = parsed["dimensions"].as_u64().unwrap_or(0).min(1 << 16) as usize;
    for segment in parsed["segments"].as_array_mut().into_iter().flatten() {
        for pack in segment["packs"].as_array_mut().into_iter().flatten() {
            let bytes = usize::try_from(pack["bytes"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX).min(rest.len());
            let (own, others) = rest.split_at(bytes);
            rest = others;
            let mut content = own.to_vec();
            reseal(&mut content, dimensions);
            let name = xxh3_128_hex(&content) + ".pack";
            pack["name"] = Value::from(name.as_str());
            files.insert(name, content);
        }
    }
    files.insert(MANIFEST_NAME.to_owned(), parsed.to_string().into_bytes());
    Some(files)
}

/// Makes the checksums of a pack's blocks right, as far as the blocks can be told.
fn reseal(content: &mut [u8], dimensions: usize) {
    let mut rest = content;
    let mut row = 0u32;
    while rest.len() >= HEADER {
        let stored = rest[STORED_BYTES].iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte));
        let Some(end) = HEADER.checked_add(stored).filter(|end| *end <= rest.len()) else { return };
        let (block, after) = std::mem::take(&mut rest).split_at_mut(end);
        let (header, payload) = block.split_at_mut(HEADER);
        if header[4] == CELLS {
            for cell in payload.chunks_exact_mut(dimensions + 4 * NEIGHBOURS + CELL_BYTES) {
                let (bytes, checksum) = cell.split_at_mut(cell.len() - 8);
                checksum.copy_from_slice(&xxh3_64(&[&row.to_le_bytes(), &*bytes].concat()).to_le_bytes());
                row += 1;
            }
        }
        header[CHECKSUM].copy_from_slice(&xxh3_64(payload).to_le_bytes());
        rest = after;
    }
}
