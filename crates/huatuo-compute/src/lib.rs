//! Operators on f32 activations and (quantized) weights.
//!
//! A network is described once, over [`Device`]; a new kind of device is a new implementation of that trait. This crate
//! knows operators and blocks, not models or text. The CPU has kernels of its own.

mod cpu;
mod device;
mod error;
mod tensor;

pub use cpu::{Cpu, CpuCache, CpuMatrix, CpuMatrixBuilder, Worker};
pub use device::{Attention, Device, Linear, MatrixBuilder, Pairing, Precision, Projection};
pub use error::ComputeError;
pub use tensor::{Encoding, TensorView};
