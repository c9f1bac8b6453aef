//! The build of an index past one machine, and what brings an index to an object store.
//!
//! The plan is huatuo-index's: stages of tasks that leave parts in a work folder. Here a stage is a DataFusion query over a table
//! of its tasks, which calls a function, [`TASK_FUNCTION`], for each. Embedded, its partitions run on this process's threads; on
//! Ballista, executors run them. Scheduler, executors and client share the index's folder under one path.

mod client;
mod error;
mod function;
mod processes;
mod records;
mod session;
mod task;
mod upload;
mod worker;

pub use client::ClusterWriter;
pub use error::ClusterError;
pub use function::{TASK_FUNCTION, task_function};
pub use processes::{ExecutorOptions, SchedulerOptions, run_executor, run_scheduler};
pub use session::Session;
pub use upload::{Uploaded, upload};
