//! Block header, kinds, codecs and limits: each byte that `SPEC.md` defines for all blocks, once.

use std::fmt;

/// First bytes of a block.
pub(crate) const MAGIC: [u8; 4] = *b"HTB1";
/// Bytes of a block before its stored payload.
pub(crate) const HEADER_BYTES: usize = 32;
/// A block's payload is never larger than this when decoded, nor when stored. Checked before memory is taken.
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 64 << 20;
/// Most nodes of a root: beyond that it would outgrow what a browser should hold.
pub(crate) const MAX_NODES: u32 = 1 << 20;
/// Most packs of a segment: cells name theirs in two bytes.
pub(crate) const MAX_PACKS: usize = 1 << 16;
/// A compressed payload is never larger than this when decoded: a few bytes must not take much memory.
pub(crate) const MAX_DECOMPRESSED_BYTES: u32 = 16 << 20;
/// Most shards of the postings: beyond that the directory would outgrow what it saves.
pub(crate) const MAX_SHARDS: u32 = 1 << 20;
/// Largest manifest that is parsed.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Most numbers in a vector, so that a block of cells stays within the payload limit.
pub const MAX_DIMENSIONS: usize = 8192;
/// Most bytes of one record's texts together.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// What a block holds. Readers pass over kinds they don't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// Corpus statistics, the nodes that searches enter by, and where everything lies.
    pub const ROOT: Self = Self(1);
    /// The zstd dictionary that texts may be compressed with.
    pub const DICTIONARY: Self = Self(2);
    /// The lists below one node.
    pub const NODES: Self = Self(3);
    /// A list of rows near one centroid, in one-bit codes.
    pub const LISTS: Self = Self(4);
    /// Cells: vector, neighbours and text's place of each row.
    pub const CELLS: Self = Self(5);
    /// One shard of BM25 postings.
    pub const TERMS: Self = Self(6);
    /// Postings of a frequent term beyond those in its shard.
    pub const POSTINGS: Self = Self(7);
    /// Records.
    pub const TEXTS: Self = Self(8);
    /// Rows that must not be found any more.
    pub const TOMBSTONES: Self = Self(9);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ROOT => f.write_str("ROOT"),
            Self::DICTIONARY => f.write_str("DICTIONARY"),
            Self::NODES => f.write_str("NODES"),
            Self::LISTS => f.write_str("LISTS"),
            Self::CELLS => f.write_str("CELLS"),
            Self::TERMS => f.write_str("TERMS"),
            Self::POSTINGS => f.write_str("POSTINGS"),
            Self::TEXTS => f.write_str("TEXTS"),
            Self::TOMBSTONES => f.write_str("TOMBSTONES"),
            Self(other) => write!(f, "kind {other}"),
        }
    }
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
    /// Zstd with the index's dictionary; only for texts.
    ZstdDictionary = 2,
}

/// The 32 bytes before a stored payload, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    pub codec: Codec,
    pub stored_bytes: u32,
    pub raw_bytes: u32,
    /// XXH3-64 of the stored payload.
    pub checksum: u64,
}

/// Why 32 bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Magic([u8; 4]),
    Codec(u16),
    Reserved,
}

impl Header {
    #[cfg(feature = "write")]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.kind.0.to_le_bytes());
        bytes[6..8].copy_from_slice(&(self.codec as u16).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderFault> {
        let field = |at: usize, length: usize| {
            bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic != MAGIC {
            return Err(HeaderFault::Magic(magic));
        }
        let codec = match field(6, 2) {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            2 => Codec::ZstdDictionary,
            other => return Err(HeaderFault::Codec(other as u16)),
        };
        if field(24, 8) != 0 {
            return Err(HeaderFault::Reserved);
        }
        Ok(Self {
            kind: Kind(field(4, 2) as u16),
            codec,
            stored_bytes: field(8, 4) as u32,
            raw_bytes: field(12, 4) as u32,
            checksum: field(16, 8),
        })
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        kind: Kind::TEXTS,
        codec: Codec::ZstdDictionary,
        stored_bytes: 7,
        raw_bytes: 0x0102_0304,
        checksum: 0x1122_3344_5566_7788,
    };

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(Header::parse(&HEADER.to_bytes()), Ok(HEADER));
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        let mut bytes = HEADER.to_bytes();
        bytes[31] = 1;
        assert_eq!(Header::parse(&bytes), Err(HeaderFault::Reserved));
    }
}
