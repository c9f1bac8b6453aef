//! A static, sharded index of consultations: vectors in one-bit codes and int8, BM25 postings and the records' texts.
//!
//! An index is a directory of immutable packs named after their content and one mutable `manifest.json`, so any
//! static host that answers range requests serves it. `SPEC.md` beside this crate is normative for every byte;
//! `format.rs` and the module of each block kind hold writer and reader of those bytes side by side.
//!
//! This crate knows vectors and bytes, not models: what a vector or a searched text stands for is its caller's matter.
//!
//! Reading takes few dependent trips: [`Index::open`] two (manifest, root), [`Index::search`] four or five (nodes and terms,
//! lists and tails, cells, neighbours), [`Index::records`] one (texts). How much a search may read is its [`Effort`].

mod block;
mod block_store;
mod bm25;
mod cache;
mod cell;
mod cosine_walk;
mod decoys;
mod dense_walk;
mod document_length;
mod effort;
mod error;
mod fetching;
mod format;
mod lexical_walk;
mod list;
mod manifest;
mod node;
mod origin;
mod postings;
mod rabitq;
mod reader;
mod root;
mod search;
mod segment;
mod statistics;
mod terms;
mod texts;
mod tombstones;
mod varint;
mod vectors;
mod verify;
mod walk;

#[cfg(feature = "write")]
mod build;

#[cfg(test)]
#[cfg(feature = "write")]
mod tests;

pub use block_store::{BlockStore, StoreState};
pub use bm25::QuestionTerms;
pub use decoys::Decoys;
pub use effort::Effort;
pub use error::{BlockAt, IndexError};
pub use format::{Kind, MAX_DIMENSIONS, MAX_RECORD_BYTES};
pub use manifest::{Embed, Encoder, Location, MANIFEST_NAME, Manifest, PackEntry, SegmentEntry};
pub use reader::{DEFAULT_CACHE_BYTES, Index};
pub use search::{Hit, SearchOutcome, SearchQuery};
pub use statistics::Statistics;
pub use texts::Record;
pub use verify::{Report, verify};

#[cfg(feature = "write")]
pub use build::{
    Build, IndexOptions, IndexWriter, Part, PreparedRow, PreparedStage, ReservedChunk, Stage, TaskSizes, WORK_FOLDER,
    compact, delete,
};
