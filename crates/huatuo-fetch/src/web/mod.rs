//! The web platform: the `fetch`, `performance` and timers that windows, workers and edge runtimes all have as globals.

mod http;
mod in_flight;
mod kept_file;

use std::ops::Range;
use std::time::Duration;

use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::FetchError;
pub(crate) use http::http_get;
pub use kept_file::KeptFile;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, ms: f64) -> JsValue;
}

pub(crate) fn now_ms() -> f64 {
    performance_now()
}

pub(crate) async fn sleep(time: Duration) {
    let promise = Promise::new(&mut |resolve, _| {
        set_timeout(&resolve, time.as_secs_f64() * 1000.0);
    });
    // A timer's promise is never rejected.
    let _ = JsFuture::from(promise).await;
}

/// What a thrown value says.
fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}

/// A browser has no directories: there is no value of this type.
#[derive(Debug)]
pub(crate) enum Directory {}

impl Directory {
    pub fn read(&self, _name: &str, _range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
        match *self {}
    }
}
