//! Effectiveness metrics as pure functions.

mod retrieval;

pub use retrieval::RetrievalMetrics;
