//! What can go wrong between a model file and an answer.

use huatuo_compute::ComputeError;

use crate::{Family, GgufError};

/// Failures of the generator.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model file is damaged or not a GGUF file.
    #[error("the model file: {0}")]
    Gguf(#[from] GgufError),
    /// The weights don't fit their description.
    #[error("the model's weights: {0}")]
    Weights(#[from] ComputeError),
    /// A network this decoder doesn't know.
    #[error("the model's architecture `{0}` is not supported; supported: {known}", known = Family::ALL.map(Family::name).join(", "))]
    UnsupportedArchitecture(String),
    /// A way of stretching rotary positions that this decoder doesn't know.
    #[error("the model stretches its positions by `{0}`; supported: linear, and Llama 3's factors")]
    UnsupportedRope(String),
    /// A number of the description can't be right.
    #[error("the model's `{key}` is {value}, expected {expected}")]
    BadParameter {
        /// Metadata key.
        key: String,
        /// Its value.
        value: u64,
        /// What would be right.
        expected: &'static str,
    },
    /// A tensor has another shape than the description says.
    #[error("tensor `{name}` has shape {found:?}, the model's description asks for {expected:?}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// Shape asked for.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The tokenizer file can't be read.
    #[error("the tokenizer: {0}; download it again")]
    Tokenizer(String),
    /// Model and tokenizer don't belong together.
    #[error("the tokenizer has {tokens} tokens, the model only {rows}: they don't belong together")]
    TokenizerMismatch {
        /// Tokens in the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// No known chat template.
    #[error("the model's chat template is not known; known: ChatML")]
    UnknownChatTemplate,
    /// More tokens than the model can hold.
    #[error(
        "the prompt has {tokens} tokens, the model's context holds {context}: ask a shorter question or give fewer references"
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens the model can hold.
        context: usize,
    },
    /// The sampler found no token with a probability.
    #[error("sampling failed: {0}")]
    Sampling(String),
}
