//! What can go wrong when weights are brought to a device.

use crate::Encoding;

/// Failures of the operators; all are found when weights are loaded, none during inference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// A matrix needs two dimensions.
    #[error("tensor `{name}` has shape {shape:?}, a matrix needs two dimensions")]
    NotAMatrix {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The bytes don't fit the shape.
    #[error("tensor `{name}` of shape {shape:?} in {encoding:?} needs {expected} bytes, the file holds {found}")]
    WrongLength {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How its numbers are stored.
        encoding: Encoding,
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// There is no memory for the weights.
    #[error("there is no memory for tensor `{name}` ({bytes} bytes): a smaller model, or one of fewer bits, would fit")]
    NoMemory {
        /// The tensor.
        name: String,
        /// Bytes that it takes.
        bytes: usize,
    },
    /// There is no graphics processor that could be used.
    #[error(
        "no graphics processor can be used: {reason}; compute on the CPU, or look at the browser's and driver's settings"
    )]
    NoDevice {
        /// What the system says.
        reason: String,
    },
    /// The graphics processor is gone.
    #[error("the graphics processor was lost: its driver was reset, or its memory ran out")]
    DeviceLost,
    /// A shape that the device has no kernel for.
    #[error("tensor `{name}` of shape {shape:?} can't be computed on the graphics processor: {reason}; use the CPU")]
    UnsupportedShape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What a kernel needs.
        reason: &'static str,
    },
    /// A row must hold whole blocks.
    #[error("tensor `{name}`: rows of {columns} numbers don't divide into blocks of {block} ({encoding:?})")]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Numbers in a row.
        columns: usize,
        /// Numbers in a block.
        block: usize,
        /// How its numbers are stored.
        encoding: Encoding,
    },
}
