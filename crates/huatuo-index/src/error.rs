//! Why an index can't be written or read.

use std::fmt;

use huatuo_fetch::FetchError;

use crate::Kind;

/// Which block an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAt {
    /// The pack's file name.
    pub pack: String,
    /// First byte of the block's header in the pack.
    pub offset: u64,
    /// What the block should hold.
    pub kind: Kind,
}

impl fmt::Display for BlockAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} block at byte {} of {}", self.kind, self.offset, self.pack)
    }
}

/// One variant a failure that a caller may treat differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Bytes could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The manifest can't be used.
    #[error("manifest.json can't be used ({detail}): check that it belongs to a huatuo index, or build it again")]
    Manifest {
        /// What is wrong.
        detail: String,
    },
    /// The index was written by a later version.
    #[error("the index has format version {found}, this program reads up to {supported}: update the program")]
    UnsupportedVersion {
        /// Version in the manifest.
        found: u64,
        /// Latest version that is read.
        supported: u64,
    },
    /// A pack that the manifest names is gone: the index was replaced after it was opened.
    #[error("{pack} is gone, so the index was replaced or not uploaded completely: open the index again")]
    VersionMix {
        /// The pack's file name.
        pack: String,
    },
    /// A block does not begin with the magic.
    #[error("the {at} begins with {found:02x?}: the file is damaged, fetch or build it again")]
    BadMagic {
        /// The block.
        at: BlockAt,
        /// The four bytes there.
        found: [u8; 4],
    },
    /// A block is of another kind than the directory says.
    #[error("the {at} is a {found} block: the file is damaged, fetch or build it again")]
    WrongKind {
        /// The block and the kind it should have.
        at: BlockAt,
        /// The kind it has.
        found: Kind,
    },
    /// A block is stored in a way this reader does not know.
    #[error("the {at} has the unknown codec {found}: update the program, or the file is damaged")]
    UnsupportedCodec {
        /// The block.
        at: BlockAt,
        /// The codec's number.
        found: u16,
    },
    /// A block's bytes are not those that were written.
    #[error("the {at} has checksum {found:016x} instead of {expected:016x}: the file is damaged, fetch it again")]
    Checksum {
        /// The block.
        at: BlockAt,
        /// XXH3-64 in its header.
        expected: u64,
        /// XXH3-64 of its stored payload.
        found: u64,
    },
    /// A block has another length than was promised.
    #[error("the {at} has {found} bytes instead of {expected}: the file is cut off or damaged, fetch it again")]
    Truncated {
        /// The block.
        at: BlockAt,
        /// Bytes promised.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// A block can't be decompressed.
    #[error("the {at} can't be decompressed ({detail}): the file is damaged, build it again")]
    Decompress {
        /// The block.
        at: BlockAt,
        /// What the decompressor said.
        detail: String,
    },
    /// A block's content breaks a rule of the format.
    #[error("the {at} breaks the format ({detail}): fetch or build the index again")]
    Corrupt {
        /// The block.
        at: BlockAt,
        /// The rule.
        detail: &'static str,
    },
    /// A pack's content does not match its name or its size.
    #[error("{pack} {detail}: upload or build it again")]
    Pack {
        /// The pack's file name.
        pack: String,
        /// What does not match.
        detail: String,
    },
    /// Something is larger than the format allows.
    #[error("{what} has size {found}, at most {limit} is allowed: split or shorten it, or the file is damaged")]
    Limit {
        /// What is too large.
        what: String,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A vector has another length than the index's vectors.
    #[error("the vector has {found} dimensions, the index has {expected}: use the encoder that built the index")]
    DimensionMismatch {
        /// Dimensions of the index.
        expected: usize,
        /// Dimensions of the vector.
        found: usize,
    },
    /// A vector has a number that is infinite or not a number.
    #[error("number {position} of the vector is not finite: check the encoder's output")]
    NotFinite {
        /// Position in the vector, from 0.
        position: usize,
    },
    /// There is no such row.
    #[error("row {row} does not exist, the index has {records} records: use rows of this index's own hits")]
    NoSuchRow {
        /// The row asked for.
        row: u32,
        /// Records in the index.
        records: u32,
    },
    /// A folder holds an unfinished build of other records or with other options.
    #[error("{folder} holds an unfinished build of other input: finish that one, or delete the folder")]
    UnfinishedBuild {
        /// The index's folder.
        folder: String,
    },
    /// Writing failed.
    #[error("{path} could not be written ({detail}): check the disk and the permissions")]
    Write {
        /// File or step.
        path: String,
        /// What the operating system or the compressor said.
        detail: String,
    },
}

/// A rule of the format that decoded bytes break; the caller knows which block they came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

impl BlockAt {
    /// The error of a block whose content breaks a rule.
    pub(crate) fn corrupt(&self, Malformed(detail): Malformed) -> IndexError {
        IndexError::Corrupt { at: self.clone(), detail }
    }
}
