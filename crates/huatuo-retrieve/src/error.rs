//! What can go wrong between a question and its references.

use huatuo_compute::ComputeError;
use huatuo_index::IndexError;

/// Failures of the retriever.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    /// A file of the encoder is missing.
    #[error("the retriever's file `{0}` is missing; download the model again")]
    MissingFile(String),
    /// A file of the encoder can't be read.
    #[error("the retriever's file `{file}` can't be read: {reason}; download it again")]
    BadFile {
        /// The file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is missing or has another shape.
    #[error("the retriever's tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Shape asked for.
        expected: Vec<usize>,
        /// Shape found, empty when the tensor is missing.
        found: Vec<usize>,
    },
    /// The weights don't fit.
    #[error("the retriever's weights: {0}")]
    Weights(#[from] ComputeError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index was built with another encoder.
    #[error("the index was built with the encoder {index}, this one is {encoder}; build the index again")]
    EncoderMismatch {
        /// Hash in the index.
        index: String,
        /// Hash of this encoder.
        encoder: String,
    },
}
