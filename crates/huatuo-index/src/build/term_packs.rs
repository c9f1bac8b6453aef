//! The inverted index, from terms sorted by partition: buckets of hashes one after another, then shards.

use std::collections::HashMap;

use huatuo_fetch::xxh3_64;

use super::cluster::Clusters;
use super::compress::Sealer;
use super::pack::{PackWriter, Sink};
use super::partition::offsets;
use super::rows::{Rows, decode_terms};
use super::work::{Work, damaged};
use crate::bm25::Corpus;
use crate::postings::{
    INLINE_POSTINGS, MAX_TAILS, NewTerm, Posting, TAIL_POSTINGS, Tails, encode_postings, encode_shard, encode_tail,
};
use crate::root::Span;
use crate::terms::shard_of;
use crate::varint::{Cursor, put};
use crate::{IndexError, Kind, PackEntry, document_length};

/// Parts that all hashes of keys are divided into: each is merged in memory by itself.
pub(crate) const BUCKETS: usize = 256;
/// Bytes a shard is meant to have: what a reader pays for a term.
const SHARD_BYTES: u64 = 2 << 10;
/// Most shards that are written, so that the root stays small.
const MOST_SHARDS: u64 = 1 << 16;
/// Bytes of a term's entry in a shard, about.
const ENTRY_BYTES: u64 = 10;
/// Bytes of a number in a table of offsets.
const OFFSET_BYTES: usize = 8;

fn hash(key: u64) -> u64 {
    xxh3_64(&key.to_le_bytes())
}

/// A partition's postings by hash of the term: offsets of each bucket and of the end, then for each term its key, the number of its
/// postings, and those. Rows count from `first_row`.
pub(crate) fn sort_terms(own: &Rows, clusters: &Clusters, first_row: u32) -> Result<Vec<u8>, IndexError> {
    let mut all = Vec::new();
    for (position, row) in clusters.order.iter().zip(first_row..) {
        let (total, terms) = decode_terms(own.terms(*position as usize))?;
        let length_byte = document_length::to_byte(total);
        all.extend(terms.into_iter().map(|(key, frequency)| (hash(key), key, Posting { row, frequency, length_byte })));
    }
    all.sort_unstable_by_key(|(hash, key, posting)| (*hash, *key, posting.row));
    let (mut table, mut bytes) = (Vec::new(), Vec::new());
    let first = ((BUCKETS + 1) * OFFSET_BYTES) as u64;
    let mut rest = all.as_slice();
    for bucket in 0..=BUCKETS {
        let count = rest.partition_point(|(hash, _, _)| ((hash >> 56) as usize) < bucket);
        let (own, others) = rest.split_at(count);
        for same in own.chunk_by(|a, b| a.1 == b.1) {
            let postings: Vec<Posting> = same.iter().map(|(_, _, posting)| *posting).collect();
            put(&mut bytes, same[0].1);
            put(&mut bytes, postings.len() as u64);
            let encoded = encode_postings(&postings);
            put(&mut bytes, encoded.len() as u64);
            bytes.extend(encoded);
        }
        table.extend_from_slice(&(first + bytes.len() as u64).to_le_bytes());
        rest = others;
    }
    Ok([table, bytes].concat())
}

/// Merges a bucket of all partitions, named by `names`: terms by hash, each with inline postings and tails chosen by weight.
pub(crate) fn merge_bucket(
    work: &Work,
    names: &[String],
    bucket: usize,
    corpus: Corpus,
) -> Result<Vec<u8>, IndexError> {
    let mut terms: HashMap<u64, Vec<Posting>> = HashMap::new();
    for name in names {
        let range = offsets(&work.slice(name, (bucket * OFFSET_BYTES) as u64, 2 * OFFSET_BYTES)?);
        let bytes = work.slice(name, range[0], range[1].saturating_sub(range[0]) as usize)?;
        read_bucket(&bytes, corpus.records, &mut terms).map_err(|rule| damaged(rule.0))?;
    }
    let mut sorted: Vec<(u64, u64, Vec<Posting>)> =
        terms.into_iter().map(|(key, postings)| (hash(key), key, postings)).collect();
    sorted.sort_unstable_by_key(|(hash, key, _)| (*hash, *key));
    let (mut out, mut total) = (Vec::new(), 0u64);
    for (_, key, postings) in sorted {
        let documents = postings.len();
        let tiers = tiers(postings, corpus);
        put(&mut out, key);
        put(&mut out, documents as u64);
        put(&mut out, tiers.len() as u64);
        for (number, tier) in tiers.iter().enumerate() {
            let encoded = match number.checked_sub(1) {
                None => encode_postings(tier),
                Some(tail) => encode_tail(key, tail as u32, tier),
            };
            total += if number == 0 { encoded.len() as u64 + ENTRY_BYTES } else { 0 };
            put(&mut out, encoded.len() as u64);
            out.extend(encoded);
        }
    }
    Ok([&total.to_le_bytes()[..], &out].concat())
}

fn read_bucket(
    bytes: &[u8],
    records: u32,
    terms: &mut HashMap<u64, Vec<Posting>>,
) -> Result<(), crate::error::Malformed> {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        let (key, count, length) = (cursor.varint()?, cursor.count(1)?, cursor.count(1)?);
        let postings = crate::postings::decode_postings(cursor.take(length)?, count, records)?;
        terms.entry(key).or_default().extend(postings);
    }
    Ok(())
}

/// The postings that weigh most, then the next ones, each tier with rows ascending.
fn tiers(mut postings: Vec<Posting>, corpus: Corpus) -> Vec<Vec<Posting>> {
    let inline = INLINE_POSTINGS as usize;
    if postings.len() <= inline {
        return vec![postings];
    }
    postings.sort_by(|a, b| corpus.weight(*b).total_cmp(&corpus.weight(*a)).then(a.row.cmp(&b.row)));
    let (first, rest) = postings.split_at(inline);
    let tails = rest.chunks(TAIL_POSTINGS as usize).take(MAX_TAILS as usize);
    let by_row = |tier: &[Posting]| {
        let mut tier = tier.to_vec();
        tier.sort_unstable_by_key(|posting| posting.row);
        tier
    };
    std::iter::once(first).chain(tails).map(by_row).collect()
}

/// Packs of shards and tails, numbered from `first_pack`, and where each shard lies.
pub(crate) fn write_shards(
    bucket: impl Fn(usize) -> Result<Vec<u8>, IndexError>,
    first_pack: u32,
    sink: &Sink<'_>,
) -> Result<(Vec<PackEntry>, Vec<Span>), IndexError> {
    let mut total = 0;
    for number in 0..BUCKETS {
        total += offsets(bucket(number)?.get(..OFFSET_BYTES).unwrap_or_default()).iter().sum::<u64>();
    }
    let shards = (total / SHARD_BYTES).max(1).next_power_of_two().min(MOST_SHARDS) as u32;
    let mut writer = ShardWriter {
        packs: PackWriter::new(sink),
        sealer: Sealer::new(None)?,
        first_pack,
        spans: vec![Span::default(); shards as usize],
    };
    let mut open: (u32, Vec<NewTerm>) = (0, Vec::new());
    for number in 0..BUCKETS {
        let bytes = bucket(number)?;
        let mut cursor = Cursor::new(bytes.get(OFFSET_BYTES..).unwrap_or_default());
        while !cursor.is_empty() {
            let read = |cursor: &mut Cursor<'_>| {
                let (key, documents, tiers) = (cursor.varint()?, cursor.varint_u32()?, cursor.count(1)?);
                let tiers = (0..tiers)
                    .map(|_| cursor.count(1).and_then(|length| Ok(cursor.take(length)?.to_vec())))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((key, documents, tiers))
            };
            let (key, documents, tiers) = read(&mut cursor).map_err(|rule: crate::error::Malformed| damaged(rule.0))?;
            let shard = shard_of(key, shards);
            if shard != open.0 {
                writer.shard(open.0, std::mem::take(&mut open.1))?;
                open.0 = shard;
            }
            open.1.push(writer.term(key, documents, tiers)?);
        }
    }
    writer.shard(open.0, open.1)?;
    Ok((writer.packs.finish()?, writer.spans))
}

struct ShardWriter<'a> {
    packs: PackWriter<'a>,
    sealer: Sealer,
    first_pack: u32,
    spans: Vec<Span>,
}

impl ShardWriter<'_> {
    /// Writes a term's tails, together in one pack.
    fn term(&mut self, key: u64, documents: u32, mut tiers: Vec<Vec<u8>>) -> Result<NewTerm, IndexError> {
        let inline = if tiers.is_empty() { Vec::new() } else { tiers.remove(0) };
        let mut tails = Tails::default();
        if !tiers.is_empty() {
            let blocks =
                tiers.iter().map(|tail| Sealer::seal_raw(Kind::POSTINGS, tail)).collect::<Result<Vec<_>, _>>()?;
            let (pack, offset) = self.packs.push(&blocks.concat())?;
            let lengths = blocks.iter().map(|block| block.len() as u32).collect();
            tails = Tails { pack: self.first_pack + pack, offset: u64::from(offset), lengths };
        }
        Ok(NewTerm { key, documents, inline, tails })
    }

    fn shard(&mut self, number: u32, mut terms: Vec<NewTerm>) -> Result<(), IndexError> {
        if terms.is_empty() {
            return Ok(());
        }
        terms.sort_unstable_by_key(|term| term.key);
        let block = self.sealer.seal(Kind::TERMS, &encode_shard(number, &terms))?;
        let (pack, offset) = self.packs.push(&block)?;
        self.spans[number as usize] =
            Span { pack: (self.first_pack + pack) as u16, offset, length: block.len() as u32 };
        Ok(())
    }
}
