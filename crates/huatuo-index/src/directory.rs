//! The directory of an open index, checked once so that searches need not.

use crate::bm25::Corpus;
use crate::error::Malformed;
use crate::format::{HEADER_BYTES, MAX_PAYLOAD_BYTES, MAX_SHARDS, MAX_VECTOR_ROWS};
use crate::root::{Entry, Root};
use crate::{Kind, Manifest};

/// Where the blocks of each kind lie.
#[derive(Debug)]
pub(crate) struct Directory {
    pub corpus: Corpus,
    pub shards: u32,
    pub dictionary: Option<Entry>,
    /// Rows ascend without gaps from 0 to the number of records.
    pub vectors: Vec<Entry>,
    /// Likewise.
    texts: Vec<Entry>,
    /// Shard numbers ascend; a shard without terms has no block.
    terms: Vec<Entry>,
}

impl Directory {
    /// Sorts a root's entries by kind and checks all that must hold between them and the manifest.
    pub fn new(root: Root, manifest: &Manifest) -> Result<Self, Malformed> {
        let check = |holds: bool, rule| if holds { Ok(()) } else { Err(Malformed(rule)) };
        check(root.records == manifest.records, "its number of records is not the manifest's")?;
        check(
            root.shards.is_power_of_two() && root.shards <= MAX_SHARDS,
            "its number of shards is not a power of two up to 2^20",
        )?;
        check(root.entries.iter().all(|entry| lies_in_pack(entry, manifest)), "a block lies outside its pack")?;
        let of_kind = |kind: Kind| root.entries.iter().filter(move |entry| entry.kind == kind).copied();
        let (vectors, texts, terms): (Vec<_>, Vec<_>, Vec<_>) =
            (of_kind(Kind::VECTORS).collect(), of_kind(Kind::TEXTS).collect(), of_kind(Kind::TERMS).collect());
        check(covers_rows(&vectors, root.records), "its vectors do not cover each row once and in order")?;
        check(covers_rows(&texts, root.records), "its texts do not cover each row once and in order")?;
        check(
            vectors.iter().all(|entry| entry.count <= MAX_VECTOR_ROWS),
            "a block of vectors has more than 4096 rows",
        )?;
        check(
            terms.is_sorted_by(|a, b| a.first < b.first) && terms.last().is_none_or(|last| last.first < root.shards),
            "its shards are not in order",
        )?;
        check(of_kind(Kind::DICTIONARY).count() <= 1, "it has more than one dictionary")?;
        Ok(Self {
            corpus: Corpus { records: root.records, total_terms: root.total_terms },
            shards: root.shards,
            dictionary: of_kind(Kind::DICTIONARY).next(),
            vectors,
            texts,
            terms,
        })
    }

    /// The block of a shard, if any row has a term of it.
    pub fn shard(&self, number: u32) -> Option<Entry> {
        self.terms.binary_search_by_key(&number, |entry| entry.first).ok().map(|position| self.terms[position])
    }

    /// The block that has a row's text; nothing for a row beyond the last.
    pub fn text_of(&self, row: u32) -> Option<Entry> {
        let after = self.texts.partition_point(|entry| entry.first <= row);
        let entry = *self.texts.get(after.checked_sub(1)?)?;
        (row - entry.first < entry.count).then_some(entry)
    }
}

fn lies_in_pack(entry: &Entry, manifest: &Manifest) -> bool {
    let end = entry.offset.checked_add(u64::from(entry.length));
    let pack = manifest.packs.get(entry.pack as usize);
    let longest = MAX_PAYLOAD_BYTES + HEADER_BYTES as u32;
    (HEADER_BYTES as u32..=longest).contains(&entry.length)
        && end.zip(pack).is_some_and(|(end, pack)| end <= pack.bytes)
}

fn covers_rows(entries: &[Entry], records: u32) -> bool {
    let mut next = Some(0u32);
    for entry in entries {
        let follows = next == Some(entry.first) && entry.count > 0;
        next = entry.first.checked_add(entry.count).filter(|_| follows);
    }
    next == Some(records)
}
