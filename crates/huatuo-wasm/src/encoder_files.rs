//! The encoder's files on their way from the page's storage to the engine, piece by piece.

use std::collections::BTreeMap;

use huatuo_retrieve::ModelFiles;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::EngineError;

/// Takes the bytes of each file in order.
#[wasm_bindgen]
#[derive(Default)]
pub struct EncoderFiles {
    files: BTreeMap<String, Vec<u8>>,
}

#[wasm_bindgen]
impl EncoderFiles {
    /// No files yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the file at `path`, which has `bytes` bytes as a whole.
    pub fn push(&mut self, path: &str, bytes: f64, piece: &[u8]) -> Result<(), JsValue> {
        let file = self.files.entry(path.to_owned()).or_default();
        let missing = (bytes as usize).saturating_sub(file.len());
        if file.try_reserve_exact(missing).is_err() {
            return Err(EngineError::no_memory(path, bytes).into());
        }
        file.extend_from_slice(piece);
        Ok(())
    }
}

impl From<EncoderFiles> for ModelFiles {
    fn from(arrived: EncoderFiles) -> Self {
        let mut files = Self::default();
        arrived.files.into_iter().for_each(|(path, bytes)| files.insert(&path, bytes));
        files
    }
}
