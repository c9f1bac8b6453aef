//! The files of an encoder in the sentence-transformers layout.

use std::collections::BTreeMap;

use crate::RetrieveError;

/// Files that an encoder is loaded from, by their path in its folder.
pub const ENCODER_FILES: &[&str] = &[
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "calibration.json",
];

/// Contents of the files, by path.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles(BTreeMap<String, Vec<u8>>);

impl ModelFiles {
    /// Adds a file.
    pub fn insert(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), bytes);
    }

    /// A file's bytes.
    pub fn get(&self, path: &str) -> Result<&[u8], RetrieveError> {
        self.0.get(path).map(Vec::as_slice).ok_or_else(|| RetrieveError::MissingFile(path.to_owned()))
    }
}
