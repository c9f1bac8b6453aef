//! Models once more from the page's storage, when the device that they were on is lost.

use huatuo_compute::ComputeError;
use huatuo_generate::{AnyDecoder, GenerateError, Reload};
use huatuo_retrieve::{AnyEncoder, ReloadEncoder, RetrieveError};
use js_sys::{Function, Promise};
use wasm_bindgen::convert::TryFromJsValue;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::encoder_files::EncoderFiles;
use crate::model_loader::ModelLoader;

/// A function of the page that gives a promise of a filled [`ModelLoader`], or of filled [`EncoderFiles`]; it is told how many
/// devices were lost before.
pub struct PageReload(pub Function);

impl Reload for PageReload {
    async fn reload(&mut self, losses: usize) -> Result<AnyDecoder, GenerateError> {
        let lost = |_: JsValue| GenerateError::from(ComputeError::DeviceLost);
        let loader = ModelLoader::try_from_js_value(self.filled(losses).await.map_err(lost)?).map_err(lost)?;
        Ok(loader.into_decoder()?.0)
    }
}

impl ReloadEncoder for PageReload {
    async fn reload(&self, losses: usize) -> Result<AnyEncoder, RetrieveError> {
        let lost = |_: JsValue| RetrieveError::from(ComputeError::DeviceLost);
        let files = EncoderFiles::try_from_js_value(self.filled(losses).await.map_err(lost)?).map_err(lost)?;
        Ok(files.into_encoder()?.0)
    }
}

impl PageReload {
    async fn filled(&self, losses: usize) -> Result<JsValue, JsValue> {
        let promise = self.0.call1(&JsValue::UNDEFINED, &JsValue::from_f64(losses as f64))?;
        JsFuture::from(promise.dyn_into::<Promise>()?).await
    }
}
