//! Graphics processors over WebGPU: Vulkan and Metal natively, the browser's in a page, with the same shaders.
//!
//! Kernels are real files in `shader/`, put together as `sources.rs` says and validated when the crate is built. A call of
//! an operator is only noted; what was noted is submitted together when a result is read or [`crate::Device::submit`] is
//! called. Pipelines and bind groups are made once.

mod attention;
mod buffer;
mod cache;
mod chooser;
mod device;
mod kernel;
mod matrix;
mod operators;
mod products;
mod profile;
mod recorder;
mod sources;
#[cfg(test)]
mod tests;
mod tuning;
mod turns;

pub use buffer::GpuBuffer;
pub use cache::GpuCache;
pub use chooser::{GpuChooser, GpuChosen};
pub use device::{Gpu, GpuOptions};
pub use matrix::{GpuMatrix, GpuMatrixBuilder};
pub use profile::KernelTime;
pub use recorder::Counts;
pub use tuning::{Trial, Tuning};
