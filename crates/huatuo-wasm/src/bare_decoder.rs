//! A decoder alone, for the page's diagnostics, for `cargo xtask bench` and for parity tests.

use huatuo_compute::Cpu;
use huatuo_fetch::clock::now_ms;
use huatuo_generate::{Decoder, KvCache, Sampler, Sampling};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::EngineError;
use crate::model_loader::ModelLoader;

/// A decoder without tokenizer, fed with tokens.
#[wasm_bindgen]
pub struct BareDecoder {
    decoder: Decoder<Cpu>,
    cache: KvCache<Cpu>,
    logits: Vec<f32>,
}

#[wasm_bindgen]
impl BareDecoder {
    /// Takes over a model that has arrived.
    #[wasm_bindgen(constructor)]
    pub fn new(loader: ModelLoader) -> Result<BareDecoder, JsValue> {
        let (decoder, _) = loader.into_decoder().map_err(EngineError::from)?;
        Ok(Self { cache: decoder.new_cache(), logits: vec![0.0; decoder.vocabulary()], decoder })
    }

    /// Forgets what was read, reads `tokens` made-up ones, and gives the milliseconds it took.
    pub fn prefill(&mut self, tokens: usize) -> f64 {
        let vocabulary = self.decoder.vocabulary().max(1) as u32;
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 37 + 262) % vocabulary).collect();
        let started = now_ms();
        self.read(&ids);
        now_ms() - started
    }

    /// Writes `tokens` made-up tokens one after the other behind what was read, and gives the milliseconds it took.
    pub fn decode(&mut self, tokens: usize) -> f64 {
        let vocabulary = self.decoder.vocabulary().max(1) as u32;
        let started = now_ms();
        for i in 0..tokens as u32 {
            self.decoder.forward(&[(i * 11 + 300) % vocabulary], &mut self.cache, Some(&mut self.logits));
        }
        now_ms() - started
    }

    /// The scores of the token that follows a prompt.
    pub fn scores(&mut self, prompt: &[u32]) -> Result<Vec<f32>, JsValue> {
        self.check(prompt)?;
        self.read(prompt);
        Ok(self.logits.clone())
    }

    /// The tokens that greedy decoding writes behind a prompt.
    pub fn greedy(&mut self, prompt: &[u32], tokens: usize) -> Result<Vec<u32>, JsValue> {
        self.check(prompt)?;
        self.read(prompt);
        let mut sampler = Sampler::new(&Sampling::default()).map_err(EngineError::from)?;
        let mut written = Vec::new();
        for _ in 0..tokens {
            let id = sampler.sample(&self.logits).map_err(EngineError::from)?;
            written.push(id);
            self.decoder.forward(&[id], &mut self.cache, Some(&mut self.logits));
        }
        Ok(written)
    }

    fn check(&self, prompt: &[u32]) -> Result<(), EngineError> {
        match prompt.iter().find(|id| **id as usize >= self.decoder.vocabulary()) {
            Some(id) => Err(EngineError::corrupt(format!("the model has no token {id}"))),
            None if prompt.is_empty() => Err(EngineError::state("the prompt has no tokens")),
            None => Ok(()),
        }
    }

    fn read(&mut self, ids: &[u32]) {
        self.cache.truncate(0);
        self.decoder.read(ids, &mut self.cache, &mut self.logits);
    }
}
