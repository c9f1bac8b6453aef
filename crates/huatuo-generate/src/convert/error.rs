//! What can go wrong when a checkpoint becomes a model file.

use std::io;

use crate::{Family, GgufError};

/// Failures of conversion and quantization.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file of the checkpoint folder is not there.
    #[error("the checkpoint has no {0}")]
    MissingFile(&'static str),
    /// A safetensors file is cut or damaged.
    #[error("{file}: {what} at byte {offset} is invalid: {reason}")]
    Safetensors {
        /// The file.
        file: String,
        /// The tensor or field.
        what: String,
        /// Where, from the start of the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A JSON or SentencePiece file is damaged or lacks something.
    #[error("{file}: {reason}")]
    BadFile {
        /// The file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A network that can't be converted.
    #[error("config.json: model type `{0}` is not supported; supported: {known}", known = Family::ALL.map(Family::name).join(", "))]
    UnsupportedModel(String),
    /// A variant that no supported network has.
    #[error("config.json: `{key}` is {value}, which is not supported")]
    UnsupportedSetting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A tokenizer of another kind.
    #[error("the tokenizer is not supported: {0}")]
    UnsupportedTokenizer(String),
    /// A tensor that the network needs is not in the checkpoint.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    /// A tensor that the network doesn't have: leaving it out would give another model.
    #[error("{file}: tensor `{name}` belongs to no part of the network")]
    UnknownTensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than config.json says.
    #[error("{file}: tensor `{name}` has shape {found:?}, config.json asks for {expected:?}")]
    WrongShape {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Shape asked for.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// Weights that no model can compute with.
    #[error("tensor `{name}`, row {row}: {value} can't be stored as {encoding}")]
    BadNumber {
        /// The tensor.
        name: String,
        /// The row.
        row: usize,
        /// The number.
        value: f32,
        /// Name of the encoding.
        encoding: &'static str,
    },
    /// The model file to quantize is damaged.
    #[error("the model file: {0}")]
    Gguf(#[from] GgufError),
    /// The weights don't fit their description.
    #[error("the model's weights: {0}")]
    Weights(#[from] huatuo_compute::ComputeError),
    /// Encoding failed.
    #[error("tensor `{name}`: {reason}")]
    Encode {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The new file can't be written.
    #[error("could not write the model file: {0}")]
    Write(#[from] io::Error),
}
