//! A decoder alone, for the page's diagnostics, for `cargo xtask bench` and for parity tests.

use huatuo_compute::{Cpu, Device, Gpu};
use huatuo_fetch::clock::now_ms;
use huatuo_generate::{AnyDecoder, Decoder, GenerateError, KvCache};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::EngineError;
use crate::model_loader::ModelLoader;

/// A decoder without tokenizer, fed with tokens.
#[wasm_bindgen]
pub struct BareDecoder {
    decoder: OnDevice,
}

enum OnDevice {
    Cpu(Bare<Cpu>),
    Gpu(Bare<Gpu>),
}

/// A decoder with what it read.
struct Bare<D: Device> {
    decoder: Decoder<D>,
    cache: KvCache<D>,
    logits: Vec<f32>,
}

/// The same method on either device.
macro_rules! on_device {
    ($self:ident, $bare:ident => $call:expr) => {
        match &mut $self.decoder {
            OnDevice::Cpu($bare) => $call,
            OnDevice::Gpu($bare) => $call,
        }
    };
}

#[wasm_bindgen]
impl BareDecoder {
    /// Takes over a model that has arrived.
    #[wasm_bindgen(constructor)]
    pub fn new(loader: ModelLoader) -> Result<BareDecoder, JsValue> {
        let (decoder, _) = loader.into_decoder().map_err(EngineError::from)?;
        let decoder = match decoder {
            AnyDecoder::Cpu(decoder) => OnDevice::Cpu(Bare::new(decoder)),
            AnyDecoder::Gpu(decoder) => OnDevice::Gpu(Bare::new(decoder)),
        };
        Ok(Self { decoder })
    }

    /// Tries all layouts of a graphics processor's kernels, and gives what was found.
    pub async fn tune(&mut self) -> Result<Option<String>, JsValue> {
        let OnDevice::Gpu(bare) = &mut self.decoder else { return Ok(None) };
        let gpu = bare.decoder.device().clone();
        gpu.try_ways(&bare.decoder.matrices(), true).await.map_err(EngineError::from)?;
        bare.decoder.tune().await.map_err(EngineError::from)?;
        Ok(Some(gpu.tuning().to_string()))
    }

    /// Forgets what was read, reads `tokens` made-up ones, and gives the milliseconds it took.
    pub async fn prefill(&mut self, tokens: usize) -> Result<f64, JsValue> {
        Ok(on_device!(self, bare => bare.prefill(tokens).await).map_err(EngineError::from)?)
    }

    /// Writes `tokens` tokens behind what was read, and gives the milliseconds it took.
    pub async fn decode(&mut self, tokens: usize) -> Result<f64, JsValue> {
        Ok(on_device!(self, bare => bare.decode(tokens).await).map_err(EngineError::from)?)
    }

    /// The scores of the token that follows a prompt.
    pub async fn scores(&mut self, prompt: Vec<u32>) -> Result<Vec<f32>, JsValue> {
        on_device!(self, bare => {
            bare.check(&prompt)?;
            bare.read(&prompt).await.map_err(EngineError::from)?;
            Ok(bare.logits.clone())
        })
    }

    /// The tokens that greedy decoding writes behind a prompt.
    pub async fn greedy(&mut self, prompt: Vec<u32>, tokens: usize) -> Result<Vec<u32>, JsValue> {
        on_device!(self, bare => {
            bare.check(&prompt)?;
            Ok(bare.greedy(&prompt, tokens).await.map_err(EngineError::from)?)
        })
    }
}

impl<D: Device> Bare<D> {
    fn new(decoder: Decoder<D>) -> Self {
        Self { cache: decoder.new_cache(), logits: vec![0.0; decoder.vocabulary()], decoder }
    }

    async fn prefill(&mut self, tokens: usize) -> Result<f64, GenerateError> {
        let vocabulary = self.decoder.vocabulary().max(1) as u32;
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 37 + 262) % vocabulary).collect();
        let started = now_ms();
        self.read(&ids).await?;
        Ok(now_ms() - started)
    }

    async fn decode(&mut self, tokens: usize) -> Result<f64, GenerateError> {
        let started = now_ms();
        self.decoder.write(&mut self.cache, tokens).await?;
        Ok(now_ms() - started)
    }

    async fn greedy(&mut self, prompt: &[u32], tokens: usize) -> Result<Vec<u32>, GenerateError> {
        self.read(prompt).await?;
        self.decoder.write(&mut self.cache, tokens).await
    }

    fn check(&self, prompt: &[u32]) -> Result<(), EngineError> {
        match prompt.iter().find(|id| **id as usize >= self.decoder.vocabulary()) {
            Some(id) => Err(EngineError::corrupt(format!("the model has no token {id}"))),
            None if prompt.is_empty() => Err(EngineError::state("the prompt has no tokens")),
            None => Ok(()),
        }
    }

    async fn read(&mut self, ids: &[u32]) -> Result<(), GenerateError> {
        self.cache.truncate(0);
        self.decoder.read(ids, &mut self.cache, &mut self.logits).await
    }
}
