//! Reading `tokenizer.json`. The file is as untrusted as the rest of a model, and the `tokenizers` crate takes much of it
//! for granted; what it would panic at is refused here first.

mod error;
mod model;

pub use error::TokenizerError;

use tokenizers::Tokenizer;

/// Reads a `tokenizer.json`.
///
/// # Errors
///
/// [`TokenizerError`] names the field that is damaged or not supported.
pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    model::check(bytes)?;
    Tokenizer::from_bytes(bytes).map_err(|error| TokenizerError::Library(error.to_string()))
}

#[cfg(test)]
mod tests;
