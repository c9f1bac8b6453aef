//! The encoder's files on their way from the page's storage to the engine, piece by piece.

use std::collections::BTreeMap;

use huatuo_compute::Gpu;
use huatuo_retrieve::{AnyEncoder, Encoder, EncoderPrecision, ModelFiles, RetrieveError};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::cpu::cpu;
use crate::error::EngineError;
use crate::gpu::GpuDevice;

/// Takes the bytes of each file in order.
#[wasm_bindgen]
#[derive(Default)]
pub struct EncoderFiles {
    files: BTreeMap<String, Vec<u8>>,
    /// Where the encoder will compute; on the processor without it.
    gpu: Option<Gpu>,
}

#[wasm_bindgen]
impl EncoderFiles {
    /// No files yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, for a graphics processor.
    #[wasm_bindgen(js_name = onGpu)]
    pub fn on_gpu(gpu: &GpuDevice) -> Self {
        Self { gpu: Some(gpu.device()), ..Self::default() }
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

impl EncoderFiles {
    /// The encoder, with the files that it was made of.
    pub fn into_encoder(self) -> Result<(AnyEncoder, ModelFiles), RetrieveError> {
        let mut files = ModelFiles::default();
        self.files.into_iter().for_each(|(path, bytes)| files.insert(&path, bytes));
        let encoder = match self.gpu {
            Some(gpu) => AnyEncoder::Gpu(Encoder::load(gpu, &files, EncoderPrecision::F32)?),
            None => AnyEncoder::Cpu(Encoder::load(cpu(), &files, EncoderPrecision::F32)?),
        };
        Ok((encoder, files))
    }
}
