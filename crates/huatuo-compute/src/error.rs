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
