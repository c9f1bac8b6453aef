//! A model file on its way from the page's storage to the engine, piece by piece.

use huatuo_compute::{Cpu, Gpu};
use huatuo_generate::{AnyDecoder, DecoderLoader, GenerateError, GgufHeader};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::cpu::cpu;
use crate::error::EngineError;
use crate::gpu::GpuDevice;

/// Takes a GGUF file's bytes in order; the heap holds one piece and, on the CPU, the packed weights, never the file.
#[wasm_bindgen]
pub struct ModelLoader {
    loader: AnyLoader,
}

enum AnyLoader {
    Cpu(DecoderLoader<Cpu>),
    Gpu(DecoderLoader<Gpu>),
}

#[wasm_bindgen]
impl ModelLoader {
    /// A loader of a file of `bytes` bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: f64) -> Self {
        Self { loader: AnyLoader::Cpu(DecoderLoader::new(cpu(), bytes as u64)) }
    }

    /// The same onto a graphics processor.
    #[wasm_bindgen(js_name = onGpu)]
    pub fn on_gpu(bytes: f64, gpu: &GpuDevice) -> Self {
        Self { loader: AnyLoader::Gpu(DecoderLoader::new(gpu.device(), bytes as u64)) }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), JsValue> {
        let taken = match &mut self.loader {
            AnyLoader::Cpu(loader) => loader.push(piece),
            AnyLoader::Gpu(loader) => loader.push(piece),
        };
        Ok(taken.map_err(EngineError::from)?)
    }
}

impl ModelLoader {
    /// The decoder, when all has arrived.
    pub fn into_decoder(self) -> Result<(AnyDecoder, GgufHeader), GenerateError> {
        match self.loader {
            AnyLoader::Cpu(loader) => loader.finish().map(|(decoder, header)| (AnyDecoder::Cpu(decoder), header)),
            AnyLoader::Gpu(loader) => loader.finish().map(|(decoder, header)| (AnyDecoder::Gpu(decoder), header)),
        }
    }
}
