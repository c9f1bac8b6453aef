//! The payload of the root block: corpus statistics and the directory of all other blocks as columns.

use crate::Kind;
use crate::error::Malformed;
use crate::varint::Cursor;
#[cfg(feature = "write")]
use crate::varint::{put, put_column};

/// Least bytes of an entry: one in each of six columns.
const LEAST_ENTRY_BYTES: usize = 6;

/// A decoded root block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub records: u32,
    /// Terms of all rows together, repeated ones repeated.
    pub total_terms: u64,
    /// Number of shards of the postings, a power of two.
    pub shards: u32,
    /// All blocks but the root.
    pub entries: Vec<Entry>,
}

/// Where a block lies and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    /// Position of the pack in the manifest.
    pub pack: u32,
    /// First byte of the header in the pack.
    pub offset: u64,
    /// Bytes of header and payload.
    pub length: u32,
    /// First row of vectors and texts, number of a shard of terms.
    pub first: u32,
    /// Rows of vectors and texts, distinct terms of a shard.
    pub count: u32,
}

impl Root {
    #[cfg(feature = "write")]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, u64::from(self.records));
        put(&mut out, self.total_terms);
        put(&mut out, u64::from(self.shards));
        put(&mut out, self.entries.len() as u64);
        let columns: [fn(&Entry) -> u64; 6] = [
            |entry| u64::from(entry.kind.0),
            |entry| u64::from(entry.pack),
            |entry| entry.offset,
            |entry| u64::from(entry.length),
            |entry| u64::from(entry.first),
            |entry| u64::from(entry.count),
        ];
        columns.iter().for_each(|column| put_column(&mut out, self.entries.iter().map(column)));
        out
    }

    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (records, total_terms, shards) = (cursor.varint_u32()?, cursor.varint()?, cursor.varint_u32()?);
        let count = cursor.count(LEAST_ENTRY_BYTES)?;
        let mut column = || cursor.column(count);
        let columns = [column()?, column()?, column()?, column()?, column()?, column()?];
        cursor.finish()?;
        let entries = (0..count).map(|position| Entry::from_columns(&columns, position)).collect::<Option<_>>();
        let entries = entries.ok_or(Malformed("a number of its directory is too large"))?;
        Ok(Self { records, total_terms, shards, entries })
    }
}

impl Entry {
    fn from_columns([kinds, packs, offsets, lengths, firsts, counts]: &[Vec<u64>; 6], position: usize) -> Option<Self> {
        Some(Self {
            kind: Kind(u16::try_from(kinds[position]).ok()?),
            pack: u32::try_from(packs[position]).ok()?,
            offset: offsets[position],
            length: u32::try_from(lengths[position]).ok()?,
            first: u32::try_from(firsts[position]).ok()?,
            count: u32::try_from(counts[position]).ok()?,
        })
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_root_comes_back() {
        let texts = Entry { kind: Kind::TEXTS, pack: 0, offset: 1 << 40, length: 33, first: 9, count: 1 };
        let later = Entry { kind: Kind(777), pack: 3, offset: 0, length: u32::MAX, first: 0, count: u32::MAX };
        let root = Root { records: 10, total_terms: 1 << 50, shards: 4, entries: vec![texts, later, texts] };
        assert_eq!(Root::decode(&root.encode()), Ok(root));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_root_or_an_error(payload: Vec<u8>) {
            let _ = Root::decode(&payload);
        }
    }
}
