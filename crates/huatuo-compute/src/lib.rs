//! Operators on f32 activations and (quantized) weights.
//!
//! A network is described once, over [`Device`]; a new kind of device is a new implementation of that trait. This crate
//! knows operators and blocks, not models or text. The CPU stands on candle's kernels where they are the hot part.

mod cpu;
mod device;
mod error;
mod tensor;

pub use cpu::{Cpu, CpuMatrix};
pub use device::{Attention, Device};
pub use error::ComputeError;
pub use tensor::{Encoding, TensorView};
