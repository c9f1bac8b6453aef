//! Speed of a model file on this device, for the page's diagnostics and for `cargo xtask bench`.

use huatuo_compute::Cpu;
use huatuo_fetch::clock::now_ms;
use huatuo_generate::{Decoder, GenerateError, Gguf, KvCache};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::cpu::cpu;
use crate::error::EngineError;

/// A decoder without tokenizer, fed with made-up tokens.
#[wasm_bindgen]
pub struct SpeedTest {
    decoder: Decoder<Cpu>,
    cache: KvCache<Cpu>,
    logits: Vec<f32>,
}

#[wasm_bindgen]
impl SpeedTest {
    /// Loads a GGUF file.
    #[wasm_bindgen(constructor)]
    pub fn new(model: &[u8]) -> Result<SpeedTest, JsValue> {
        let load = || -> Result<Self, GenerateError> {
            let decoder = Decoder::load(cpu(), &Gguf::parse(model)?)?;
            Ok(Self { cache: decoder.new_cache(), logits: vec![0.0; decoder.vocabulary()], decoder })
        };
        load().map_err(|error| EngineError::from(error).into())
    }

    /// Forgets what was read, reads `tokens` new ones, and gives the milliseconds it took.
    pub fn prefill(&mut self, tokens: usize) -> f64 {
        self.cache.truncate(0);
        let vocabulary = self.decoder.vocabulary() as u32;
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 37 + 262) % vocabulary).collect();
        let started = now_ms();
        for chunk in ids.chunks(Decoder::<Cpu>::CHUNK) {
            self.decoder.forward(chunk, &mut self.cache, Some(&mut self.logits));
        }
        now_ms() - started
    }

    /// Writes `tokens` tokens one after the other behind what was read, and gives the milliseconds it took.
    pub fn decode(&mut self, tokens: usize) -> f64 {
        let vocabulary = self.decoder.vocabulary() as u32;
        let started = now_ms();
        for i in 0..tokens as u32 {
            self.decoder.forward(&[(i * 11 + 300) % vocabulary], &mut self.cache, Some(&mut self.logits));
        }
        now_ms() - started
    }
}
