//! Why a file is no usable tokenizer.

/// Failures of reading a `tokenizer.json`. Hosts add the file's name and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// Not JSON, or not that of a tokenizer; the message says where.
    #[error("it is no tokenizer: {0}")]
    Json(String),
    /// A field that the library can't be trusted with.
    #[error("its `{field}` {reason}")]
    Field {
        /// Path of the field in the file.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// What the `tokenizers` crate found itself.
    #[error("{0}")]
    Library(String),
}

/// A field that is damaged or not supported.
pub(crate) fn bad(field: &str, reason: impl Into<String>) -> TokenizerError {
    TokenizerError::Field { field: field.to_owned(), reason: reason.into() }
}
