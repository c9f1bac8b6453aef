//! An encoder alone, for `cargo xtask bench`.

use huatuo_compute::Cpu;
use huatuo_retrieve::{Bert, EncoderPrecision};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::cpu::cpu;
use crate::error::EngineError;

/// An encoder without tokenizer, fed with tokens.
#[wasm_bindgen]
pub struct BareEncoder {
    network: Bert<Cpu>,
}

#[wasm_bindgen]
impl BareEncoder {
    /// An encoder from its `config.json` and `model.safetensors`, in 8 bits or in single precision.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &[u8], weights: &[u8], int8: bool) -> Result<BareEncoder, JsValue> {
        let precision = if int8 { EncoderPrecision::Int8 } else { EncoderPrecision::F32 };
        let network = Bert::load(cpu(), config, weights, precision).map_err(EngineError::from)?;
        Ok(Self { network })
    }

    /// Hidden states `[texts, tokens, hidden]` of as many texts of equal length as `ids` hold.
    #[wasm_bindgen(js_name = hiddenStates)]
    pub async fn hidden_states(&self, ids: Vec<u32>, length: usize) -> Result<Vec<f32>, JsValue> {
        let config = self.network.config();
        let fits = (1..=config.max_position_embeddings).contains(&length) && ids.len().is_multiple_of(length);
        if !fits || ids.iter().any(|id| *id as usize >= config.vocab_size) {
            return Err(EngineError::state("the encoder has no such token, or not so many positions").into());
        }
        let texts: Vec<&[u32]> = ids.chunks_exact(length).collect();
        Ok(self.network.hidden_states(&texts).await.map_err(EngineError::from)?)
    }
}
