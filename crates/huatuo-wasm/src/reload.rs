//! The model once more from the page's storage, when the device that it was on is lost.

use huatuo_compute::ComputeError;
use huatuo_generate::{AnyDecoder, GenerateError, Reload};
use js_sys::{Function, Promise};
use wasm_bindgen::convert::TryFromJsValue;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::model_loader::ModelLoader;

/// A function of the page that gives a promise of a filled [`ModelLoader`]; it is told how many devices were lost before.
pub struct PageReload(pub Function);

impl Reload for PageReload {
    async fn reload(&mut self, losses: usize) -> Result<AnyDecoder, GenerateError> {
        let lost = |_: JsValue| GenerateError::from(ComputeError::DeviceLost);
        let promise = self.0.call1(&JsValue::UNDEFINED, &JsValue::from_f64(losses as f64)).map_err(lost)?;
        let promise = promise.dyn_into::<Promise>().map_err(lost)?;
        let loader = ModelLoader::try_from_js_value(JsFuture::from(promise).await.map_err(lost)?).map_err(lost)?;
        Ok(loader.into_decoder()?.0)
    }
}
