//! A model file on its way from the page's storage to the engine, piece by piece.

use huatuo_compute::Cpu;
use huatuo_generate::{Decoder, DecoderLoader, GenerateError, GgufHeader};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::cpu::cpu;
use crate::error::EngineError;

/// Takes a GGUF file's bytes in order; the heap holds the packed weights and one piece, never the file.
#[wasm_bindgen]
pub struct ModelLoader {
    loader: DecoderLoader<Cpu>,
}

#[wasm_bindgen]
impl ModelLoader {
    /// A loader of a file of `bytes` bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: f64) -> Self {
        Self { loader: DecoderLoader::new(cpu(), bytes as u64) }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), JsValue> {
        Ok(self.loader.push(piece).map_err(EngineError::from)?)
    }
}

impl ModelLoader {
    /// The decoder, when all has arrived.
    pub fn into_decoder(self) -> Result<(Decoder<Cpu>, GgufHeader), GenerateError> {
        self.loader.finish()
    }
}
