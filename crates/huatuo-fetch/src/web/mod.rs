//! The web platform: the `fetch` and `performance` that windows, workers and edge runtimes all have as globals.

use std::ops::Range;

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, Request, RequestCache, RequestInit, Response};

use crate::FetchError;
use crate::reply::{MAX_WHOLE_BYTES, check_body, check_head, range_header};

#[wasm_bindgen]
extern "C" {
    // Bound to the global of whatever runs this, so that no cast to Window or WorkerGlobalScope is needed.
    #[wasm_bindgen(js_name = fetch, catch)]
    fn global_fetch(request: &Request) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

pub(crate) fn now_ms() -> f64 {
    performance_now()
}

/// A browser has no directories: there is no value of this type.
#[derive(Debug)]
pub(crate) enum Directory {}

impl Directory {
    pub fn read(&self, _name: &str, _range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
        match *self {}
    }
}

/// Reads a URL whole or one range of it.
pub(crate) async fn http_get(url: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
    let network = |error: JsValue| FetchError::Network { url: url.to_owned(), detail: describe(&error) };
    let request = request(url, range.as_ref()).map_err(network)?;
    let promise = global_fetch(&request).map_err(network)?;
    let response: Response = JsFuture::from(promise).await.map_err(network)?.unchecked_into();
    let content_range = response.headers().get("content-range").map_err(network)?;
    let head = check_head(url, response.status(), content_range.as_deref(), range.as_ref()).and_then(|()| {
        let length = response.headers().get("content-length").ok().flatten().and_then(|text| text.parse().ok());
        match length {
            Some(length) if range.is_none() && length > MAX_WHOLE_BYTES => check_body(url, length, None),
            _ => Ok(()),
        }
    });
    if let Err(error) = head {
        // The body must not be read to its end; whether cancelling works changes nothing for the caller.
        let _ = response.body().map(|body| body.cancel());
        return Err(error);
    }
    let buffer = JsFuture::from(response.array_buffer().map_err(network)?).await.map_err(network)?;
    let bytes = Uint8Array::new(&buffer).to_vec();
    check_body(url, bytes.len() as u64, range.as_ref())?;
    Ok(bytes)
}

fn request(url: &str, range: Option<&Range<u64>>) -> Result<Request, JsValue> {
    let init = RequestInit::new();
    init.set_method("GET");
    if let Some(range) = range {
        // Chromium serialises parallel ranges of one URL behind its cache lock, and Cache.put throws on a 206.
        init.set_cache(RequestCache::NoStore);
        let headers = Headers::new()?;
        headers.set("range", &range_header(range))?;
        init.set_headers(&headers);
    }
    Request::new_with_str_and_init(url, &init)
}

fn describe(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}
