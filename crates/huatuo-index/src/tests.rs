//! Whole indexes, written and read back. Each part's own tests stand beside it.

mod bm25_oracle;
mod changes;
mod cost;
mod damage;
mod decoys;
mod dense_oracle;
mod fixtures;
mod killed;
mod later_versions;
#[path = "../../huatuo-fetch/tests/range_server/mod.rs"]
mod range_server;
mod round_trip;
pub(crate) mod sample;
mod spec;
mod stored;
