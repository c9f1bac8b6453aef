//! Continuous batching: texts join and leave a batch at each token, each weight is loaded once for all of them.
//!
//! One thread owns the decoder. At every step it reads one token of each text that is being written, and as much of the
//! prompts that arrive as there is room for in the step ("chunked prefill", Agrawal et al. 2023), so that a long prompt does not
//! stall the others. Keys and values lie in pages of a fixed budget (Kwon et al. 2023); texts that begin alike share pages.
//! When the budget is used up, what is only kept for later goes first, then the text that came last waits and is read anew.

mod engine;
mod plan;
mod prefixes;
mod run;

pub use engine::{Busy, Engine, EngineSnapshot, Finish, FinishReason, Job, Piece, Scope, Slot};
pub use run::{SchedulerOptions, start};
