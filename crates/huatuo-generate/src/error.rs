//! What can go wrong between a model file and an answer.

use huatuo_compute::ComputeError;

use crate::{ChatTemplate, Family, GgufError};

/// Failures of the generator.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model file is damaged or not a GGUF file.
    #[error("the model file: {0}")]
    Gguf(#[from] GgufError),
    /// The weights don't fit their description.
    #[error("the model's weights: {0}")]
    Weights(#[from] ComputeError),
    /// What was loaded after a device was lost is another model.
    #[error("the graphics processor was lost, and the model's file is another one by now: load it anew")]
    OtherModel,
    /// The device has no room for the model and a conversation.
    #[error(
        "the model needs {weights} bytes for its weights and {cache} bytes for a conversation of {tokens} tokens, the device has \
         {room}: a model of {room} bytes less the conversation's would fit, one of fewer parameters or fewer bits"
    )]
    NoRoom {
        /// Bytes of its tensors.
        weights: u64,
        /// Bytes of keys and values.
        cache: u64,
        /// Tokens that these are for.
        tokens: usize,
        /// Bytes that are free.
        room: u64,
    },
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
    /// The model file carries no tokenizer, and none was given.
    #[error("the model file carries no tokenizer (`tokenizer.ggml.model`): put the model's tokenizer.json beside it")]
    NoTokenizer,
    /// A kind of tokenizer, or a way of cutting text into words, that this reader doesn't know.
    #[error("the model file's `{key}` is `{value}`, supported: {supported}; put the model's tokenizer.json beside it")]
    UnsupportedTokenizer {
        /// Metadata key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is known.
        supported: &'static str,
    },
    /// The tokenizer in the model file is damaged.
    #[error("the model file's tokenizer: `{key}` {reason}; download the file again")]
    TokenizerMetadata {
        /// Metadata key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Model and tokenizer don't belong together.
    #[error("the tokenizer has {tokens} tokens, the model only {rows}: they don't belong together")]
    TokenizerMismatch {
        /// Tokens in the tokenizer.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// No known chat template.
    #[error("the model's chat template is not known; known: {known}", known = ChatTemplate::NAMES)]
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
    /// A setting of the sampler can't be right.
    #[error("the {name} is {value}, expected {expected}")]
    BadSampling {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// The sampler found no token with a probability.
    #[error("sampling failed: {0}")]
    Sampling(String),
}
