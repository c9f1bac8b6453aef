//! Changing an index that is there: records deleted, and all that is left folded into one segment.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use huatuo_fetch::{Source, xxh3_64};

use super::compress::Sealer;
use super::pack::PackWriter;
use super::rows::encode_counted_terms;
use super::work::{write_error, write_file};
use super::writer::{IndexOptions, IndexWriter};
use crate::cell::Cell;
use crate::postings::{Posting, Shard, parse_tail};
use crate::segment::{Place, Segment};
use crate::vectors::row_bytes;
use crate::{Index, IndexError, Kind, Location, MANIFEST_NAME, Manifest, Statistics, tombstones};

/// Rows whose records are read together.
const TOGETHER: usize = 4096;
/// Rows whose terms are gathered from all postings at a time: about 700 MB of them.
const ROWS_OF_TERMS: u32 = 1 << 20;

/// Has the records with these identifiers never be found again; gives the identifiers that no record has.
///
/// A list of their rows is written as a pack, then the manifest; readers of the old manifest go on until they open the index again.
/// The records' bytes stay in the packs until the index is compacted.
///
/// # Errors
/// Those of reading the index, and [`IndexError::Write`].
pub async fn delete(folder: &Path, ids: &[String]) -> Result<Vec<String>, IndexError> {
    let index = Index::open_with_cache(Source::directory(folder), 0).await?;
    let mut wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let mut manifest = index.manifest().clone();
    for (segment, entry) in index.segments.iter().zip(&mut manifest.segments) {
        let mut deleted: Vec<u32> = segment.deleted.iter().copied().collect();
        let before = deleted.len();
        for rows in live_rows(segment).chunks(TOGETHER) {
            let global: Vec<u32> = rows.iter().map(|row| segment.first_row + row).collect();
            let (records, _) = index.records(&global).await?;
            let found = records.iter().zip(rows).filter(|(record, _)| wanted.remove(record.id.as_str()));
            deleted.extend(found.map(|(_, row)| *row));
        }
        if deleted.len() > before {
            deleted.sort_unstable();
            // The list it replaces is the last pack, if there is one.
            if entry.tombstones.take().is_some() {
                entry.packs.pop();
            }
            let block = Sealer::new(None)?.seal(Kind::TOMBSTONES, &tombstones::encode(&deleted))?;
            let sink = |name: &str, content: &[u8]| write_file(folder, name, content);
            let mut packs = PackWriter::new(&sink);
            packs.push(&block)?;
            entry.tombstones = Some(Location { pack: entry.packs.len() as u32, offset: 0, length: block.len() as u32 });
            entry.packs.extend(packs.finish()?);
        }
    }
    write_file(folder, MANIFEST_NAME, &manifest.to_json()?)?;
    let missing: HashSet<String> = wanted.into_iter().map(str::to_owned).collect();
    Ok(ids.iter().filter(|id| missing.contains(*id)).cloned().collect())
}

/// Writes an index of one segment with all records that can be found, in another folder.
///
/// # Errors
/// Those of reading the index and of [`IndexWriter`].
pub async fn compact(folder: &Path, out: &Path) -> Result<Manifest, IndexError> {
    let index = Index::open_with_cache(Source::directory(folder), 0).await?;
    let described = fs::read(folder.join(MANIFEST_NAME)).map_err(|error| write_error(folder, &error))?;
    let options = IndexOptions::like(index.manifest(), format!("compacted {:016x}", xxh3_64(&described)));
    let mut writer = IndexWriter::open(options, out)?;
    let mut known = writer.resumed();
    for segment in &index.segments {
        for first in (0..segment.entry.records).step_by(ROWS_OF_TERMS as usize) {
            let range = first..first.saturating_add(ROWS_OF_TERMS).min(segment.entry.records);
            let rows: Vec<u32> = live_rows(segment).into_iter().filter(|row| range.contains(row)).collect();
            let skipped = known.min(rows.len() as u64);
            known -= skipped;
            let rows = &rows[skipped as usize..];
            if rows.is_empty() {
                continue;
            }
            let mut terms = terms_of(&index, segment, range).await?;
            for rows in rows.chunks(TOGETHER) {
                copy(&index, segment, rows, &mut terms, &mut writer).await?;
            }
        }
    }
    writer.finish()
}

fn live_rows(segment: &Segment) -> Vec<u32> {
    (0..segment.entry.records).filter(|row| !segment.deleted.contains(row)).collect()
}

/// Adds some rows of a segment as they are.
async fn copy(
    index: &Index,
    segment: &Segment,
    rows: &[u32],
    terms: &mut HashMap<u32, Vec<(u64, u32)>>,
    writer: &mut IndexWriter,
) -> Result<(), IndexError> {
    let places: Vec<Place> = rows.iter().map(|row| segment.cell(*row)).collect();
    let cells = index.blocks(&places, &mut Statistics::default()).await?;
    let global: Vec<u32> = rows.iter().map(|row| segment.first_row + row).collect();
    let (records, _) = index.records(&global).await?;
    for ((row, cell), record) in rows.iter().zip(&cells).zip(&records) {
        Cell::parse(cell, segment.dimensions).map_err(|rule| segment.at(&segment.cell(*row)).corrupt(rule))?;
        let mut text = Vec::new();
        record.put(&mut text);
        let terms = encode_counted_terms(terms.remove(row).unwrap_or_default());
        writer.add_row(&cell[..row_bytes(segment.dimensions)], &text, &terms)?;
    }
    Ok(())
}

/// Terms of some rows with their frequencies, gathered from all postings.
async fn terms_of(
    index: &Index,
    segment: &Segment,
    rows: std::ops::Range<u32>,
) -> Result<HashMap<u32, Vec<(u64, u32)>>, IndexError> {
    let mut terms: HashMap<u32, Vec<(u64, u32)>> = HashMap::new();
    let mut gather = |key: u64, postings: Vec<Posting>| {
        for posting in postings.into_iter().filter(|posting| rows.contains(&posting.row)) {
            terms.entry(posting.row).or_default().push((key, posting.frequency));
        }
    };
    for number in 0..segment.root.shards.len() as u32 {
        let Some(place) = segment.shard(number) else { continue };
        let wrong = |rule| segment.at(&place).corrupt(rule);
        let payloads = index.blocks(&[place], &mut Statistics::default()).await?;
        for payload in &payloads {
            for term in Shard::parse(payload).map_err(wrong)?.terms {
                gather(term.key, term.postings(segment.entry.records).map_err(wrong)?);
                let mut offset = term.tails.offset;
                for (length, number) in term.tails.lengths.iter().zip(0..) {
                    let tail = segment.told(Kind::POSTINGS, term.tails.pack, offset, *length).map_err(wrong)?;
                    for payload in index.blocks(&[tail], &mut Statistics::default()).await? {
                        let postings = parse_tail(&payload, term.key, number, segment.entry.records);
                        gather(term.key, postings.map_err(|rule| segment.at(&tail).corrupt(rule))?);
                    }
                    offset += u64::from(*length);
                }
            }
        }
    }
    Ok(terms)
}
