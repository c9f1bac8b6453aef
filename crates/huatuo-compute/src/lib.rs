//! Operators on f32 activations and (quantized) weights.
//!
//! A network is described once, over [`Device`]; a new kind of device is a new implementation of that trait. This crate
//! knows operators and blocks, not models or text. The CPU has kernels of its own.

mod choice;
mod cpu;
mod device;
mod error;
mod gpu;
mod row_cutter;
mod tensor;

pub use choice::{Automaton, ChoiceRule, Draw};
pub use cpu::{Cpu, CpuCache, CpuChooser, CpuMatrix, CpuMatrixBuilder, Worker};
pub use device::{Attention, Device, Heads, Linear, MatrixBuilder, Norm, Pairing, Precision, Projection, Rotary, Span};
pub use error::ComputeError;
pub use gpu::{
    Counts, Gpu, GpuBuffer, GpuCache, GpuChooser, GpuChosen, GpuMatrix, GpuMatrixBuilder, GpuOptions, KernelTime,
    Trial, Tuning,
};
pub use tensor::{Encoding, TensorView};
