//! The browser's graphics processor.

use huatuo_compute::{ComputeError, Gpu, GpuOptions};
use huatuo_generate::GenerateError;
use js_sys::Object;
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::EngineError;
use crate::wire;

#[wasm_bindgen(module = "/js/gpu-features.js")]
extern "C" {
    #[wasm_bindgen(js_name = wantSubgroups)]
    fn want_subgroups(wanted: bool);
}

/// A device that models are brought to.
#[wasm_bindgen]
pub struct GpuDevice {
    gpu: Gpu,
}

#[derive(Serialize)]
struct WireCounts {
    dispatches: f64,
    submits: f64,
    bytes_read: f64,
}

#[wasm_bindgen]
impl GpuDevice {
    /// Takes the browser's fastest adapter, of whose memory at most `budget` bytes are used where it is given; `tuning` is what
    /// an earlier start found out about it.
    pub async fn request(subgroups: bool, budget: Option<f64>, tuning: Option<String>) -> Result<GpuDevice, JsValue> {
        want_subgroups(subgroups);
        let options = GpuOptions { subgroups, budget: budget.map(|bytes| bytes as u64), ..GpuOptions::default() };
        let gpu = Gpu::request(&options).await.map_err(EngineError::from)?;
        gpu.take_tuning(&tuning.unwrap_or_default());
        Ok(Self { gpu })
    }

    /// The adapter, for people.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.gpu.name()
    }

    /// Whether the device is gone.
    #[wasm_bindgen(js_name = isLost, getter)]
    pub fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }

    /// Loses the device, to try what happens then.
    pub fn lose(&self) {
        self.gpu.lose();
    }

    /// Runs of kernels, submits and bytes read back since the device was made.
    pub fn counts(&self) -> Object {
        let counts = self.gpu.counts();
        let wire = WireCounts {
            dispatches: counts.dispatches as f64,
            submits: counts.submits as f64,
            bytes_read: counts.bytes_read as f64,
        };
        wire::to_js(&wire).into()
    }
}

impl GpuDevice {
    /// Shares the device.
    pub fn device(&self) -> Gpu {
        self.gpu.clone()
    }
}

impl From<ComputeError> for EngineError {
    fn from(error: ComputeError) -> Self {
        GenerateError::from(error).into()
    }
}
