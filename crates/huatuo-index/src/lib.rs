//! A static, sharded index of consultations: int8 vectors, BM25 postings and the records' texts.
//!
//! An index is a directory of immutable packs named after their content and one mutable `manifest.json`, so any
//! static host that answers range requests serves it. `SPEC.md` beside this crate is normative for every byte;
//! `format.rs` and the module of each block kind hold writer and reader of those bytes side by side.
//!
//! This crate knows vectors and bytes, not models: what a vector or a searched text stands for is its caller's matter.
//!
//! Reading takes few dependent trips: [`Index::open`] two (manifest, root), [`Index::search`] one (vectors and terms
//! in parallel), [`Index::records`] one (texts).

mod block;
mod bm25;
mod cache;
mod directory;
mod document_length;
mod error;
mod format;
mod manifest;
mod postings;
mod reader;
mod root;
mod search;
mod statistics;
mod terms;
mod texts;
mod varint;
mod vectors;
mod verify;

#[cfg(feature = "write")]
mod compress;
#[cfg(feature = "write")]
mod pack;
#[cfg(feature = "write")]
mod writer;

#[cfg(test)]
#[cfg(feature = "write")]
mod tests;

pub use error::{BlockAt, IndexError};
pub use format::{Kind, MAX_DIMENSIONS, MAX_RECORD_BYTES};
pub use manifest::{Embed, Encoder, MANIFEST_NAME, Manifest, PackEntry, RootLocation};
pub use reader::{DEFAULT_CACHE_BYTES, Index};
pub use search::{Hit, SearchOutcome, SearchQuery};
pub use statistics::Statistics;
pub use texts::Record;
pub use verify::{Report, verify};
#[cfg(feature = "write")]
pub use writer::{IndexOptions, IndexWriter};
