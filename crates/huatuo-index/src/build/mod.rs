//! Building an index in bounded memory, part by part, so that a build that was killed goes on where it was. No part depends on
//! threads or on time: the same records give the same bytes.
//!
//! 1. Records come in and are kept in chunks ([`writer`]).
//! 2. Centroids of partitions are trained, and chunks sorted by partition ([`partition`]).
//! 3. Each partition is put in order: nodes, lists, guests, neighbours ([`cluster`]).
//! 4. Rows get their numbers; each partition's texts and lists are packed, its terms sorted ([`partition_packs`]).
//! 5. Terms are merged bucket by bucket and packed in shards ([`term_packs`]).
//! 6. Cells, nodes and the root are packed; the manifest is written last ([`segment_builder`]).

mod centroids;
mod change;
mod cluster;
mod compress;
mod pack;
mod partition;
mod partition_packs;
mod rows;
mod segment_builder;
mod term_packs;
mod work;
mod writer;

pub use change::{compact, delete};
pub use work::WORK_FOLDER;
pub use writer::{IndexOptions, IndexWriter};
