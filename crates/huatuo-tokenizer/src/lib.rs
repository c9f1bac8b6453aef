//! Reading `tokenizer.json`. The file is as untrusted as the rest of a model, and the `tokenizers` crate takes much of
//! it for granted; what it would panic at is refused here first.

mod error;
mod model;
mod steps;

pub use error::TokenizerError;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use model::Model;
use steps::Steps;

/// What is checked of a file; of the rest the library finds itself what is wrong.
#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Reads a `tokenizer.json`. Texts are never padded, whatever the file says; where they are cut is the caller's to set.
///
/// # Errors
///
/// [`TokenizerError`] names the field that is damaged or not supported.
pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| TokenizerError::Json(error.to_string()))?;
    file.model.check()?;
    let mut steps = Steps::default();
    steps.normalizer(&file.normalizer)?;
    steps.pre_tokenizer(&file.pre_tokenizer)?;
    steps.post_processor(&file.post_processor)?;
    steps.decoder(&file.decoder)?;
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| TokenizerError::Library(error.to_string()))?;
    tokenizer.with_padding(None);
    // The library would keep the parts of the first ten thousand texts: they are patients' questions.
    let mut model = tokenizer.get_model().clone();
    model.resize_cache(0);
    tokenizer.with_model(model);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests;
