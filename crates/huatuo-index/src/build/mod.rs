//! Building an index in bounded memory, part by part, so that a build that was killed goes on where it was. No part depends on
//! threads or on time: the same records give the same bytes.
//!
//! The stages, each of tasks that don't depend on each other ([`stage`]), and the single steps between ([`plan`]):
//!
//! 1. Records come in and are kept in chunks ([`writer`]); their vectors may be made elsewhere ([`chunk`]).
//! 2. Centroids of partitions are trained, and chunks sorted by partition ([`partition`]).
//! 3. Each partition is put in order: nodes, lists, guests, neighbours ([`cluster`]).
//! 4. Rows get their numbers ([`order`]); each partition's texts and lists are packed, its terms sorted ([`partition_packs`]).
//! 5. Terms are merged bucket by bucket and packed in shards ([`term_packs`]).
//! 6. Cells are packed ([`cells`]), then nodes and the root ([`assemble`]); the manifest is written last.

mod assemble;
mod cells;
mod centroids;
mod change;
mod chunk;
mod cluster;
mod compress;
mod order;
mod pack;
mod partition;
mod partition_packs;
mod plan;
mod rows;
mod stage;
mod term_packs;
mod work;
mod writer;

pub use change::{compact, delete};
pub use chunk::{PreparedRow, ReservedChunk};
pub use plan::Build;
pub use stage::{PreparedStage, Stage};
pub use work::{Part, WORK_FOLDER};
pub use writer::{IndexOptions, IndexWriter, TaskSizes};
