//! What a model file holds, without loading it.

use std::collections::BTreeMap;

use huatuo_compute::Encoding;

use crate::gguf_writer::ggml_type;
use crate::{Architecture, ChatTemplate, GenerateError, Gguf, Value};

/// A model file's description.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// The network.
    pub architecture: Architecture,
    /// `general.name`, where the file has one.
    pub name: Option<String>,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// How tensors are stored, by the encoding's name.
    pub encodings: BTreeMap<&'static str, EncodingUse>,
    /// `tokenizer.ggml.model`: `gpt2` is byte-level BPE, `llama` is SentencePiece.
    pub tokenizer: Option<String>,
    /// `tokenizer.ggml.pre`: how texts are split.
    pub splitting: Option<String>,
    /// Tokens in the file.
    pub tokens: usize,
    /// The chat template: `None` when the file has none, else whether it is a known one.
    pub chat_template: Option<bool>,
}

/// Tensors in one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingUse {
    /// Tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// An encoding's name in ggml, such as `Q4_K`.
pub fn encoding_name(encoding: Encoding) -> &'static str {
    ggml_type(encoding).1
}

impl ModelSummary {
    /// Describes a parsed file.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, GenerateError> {
        let text = |key: &str| gguf.text(key).ok().map(str::to_owned);
        let (mut encodings, mut parameters) = (BTreeMap::<_, EncodingUse>::new(), 0);
        for name in gguf.tensor_names() {
            let tensor = gguf.tensor(name)?;
            let entry = encodings.entry(encoding_name(tensor.encoding)).or_default();
            entry.tensors += 1;
            entry.bytes += tensor.bytes.len() as u64;
            parameters += tensor.shape.iter().map(|&n| n as u64).product::<u64>();
        }
        let tokens = match gguf.metadata("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => tokens.len(),
            _ => 0,
        };
        Ok(Self {
            architecture: Architecture::from_gguf(gguf)?,
            name: text("general.name"),
            vocabulary: gguf.tensor("token_embd.weight")?.shape.first().copied().unwrap_or(0),
            parameters,
            encodings,
            tokenizer: text("tokenizer.ggml.model"),
            splitting: text("tokenizer.ggml.pre"),
            tokens,
            chat_template: text("tokenizer.chat_template").map(|_| ChatTemplate::from_gguf(gguf).is_ok()),
        })
    }
}
