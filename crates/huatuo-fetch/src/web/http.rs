//! One HTTP request through `fetch`.

use std::ops::Range;
use std::time::Duration;

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Headers, ReadableStreamDefaultReader, ReadableStreamReadResult, Request, RequestCache, RequestInit,
    Response,
};

use super::describe;
use super::in_flight::InFlight;
use crate::FetchError;
use crate::reply::{Head, check_body, check_head, range_header};

#[wasm_bindgen]
extern "C" {
    // Bound to the global of whatever runs this, so that no cast to Window or WorkerGlobalScope is needed.
    #[wasm_bindgen(js_name = fetch, catch)]
    fn global_fetch(request: &Request) -> Result<Promise, JsValue>;
}

/// Ranges up to this size are taken at once: what a stream's every piece costs a browser is more than they take to come.
const AT_ONCE_BYTES: u64 = 256 << 10;

/// Reads a URL whole or one range of it. Whatever ends this before the body's end aborts the request: an error, or that
/// the future is dropped.
pub(crate) async fn http_get(url: &str, range: Option<Range<u64>>, silence: Duration) -> Result<Vec<u8>, FetchError> {
    let network = |error: JsValue| FetchError::Network { url: url.to_owned(), detail: describe(&error) };
    let in_flight = InFlight::new(silence).map_err(network)?;
    let mut bytes = Vec::<u8>::new();
    let failed = |error: JsValue, received: usize| match in_flight.stalled() {
        true => FetchError::Stalled {
            url: url.to_owned(),
            silent_ms: silence.as_millis() as u64,
            received: received as u64,
        },
        false => network(error),
    };
    let request = request(url, range.as_ref(), &in_flight.signal()).map_err(network)?;
    let promise = global_fetch(&request).map_err(network)?;
    let response: Response = JsFuture::from(promise).await.map_err(|error| failed(error, 0))?.unchecked_into();
    in_flight.progress();
    let Expected { bytes: expected, is_told } = check(url, &response, range.as_ref())?;
    if is_told && (1..=AT_ONCE_BYTES).contains(&expected) {
        let promise = response.array_buffer().map_err(network)?;
        let body = JsFuture::from(promise).await.map_err(|error| failed(error, 0))?;
        append(&mut bytes, &Uint8Array::new(&body));
    } else if let Some(body) = response.body() {
        // Only spares copies: without it the bytes are taken as they come.
        let _ = bytes.try_reserve_exact(expected as usize);
        let reader = ReadableStreamDefaultReader::new(&body).map_err(network)?;
        loop {
            let chunk = JsFuture::from(reader.read()).await.map_err(|error| failed(error, bytes.len()))?;
            in_flight.progress();
            let chunk: ReadableStreamReadResult = chunk.unchecked_into();
            if chunk.get_done() == Some(true) {
                break;
            }
            append(&mut bytes, &chunk.get_value().unchecked_into());
            check_limit(url, bytes.len() as u64, range.as_ref())?;
        }
    }
    check_body(url, bytes.len() as u64, range.as_ref())?;
    in_flight.finish();
    Ok(bytes)
}

fn request(url: &str, range: Option<&Range<u64>>, signal: &AbortSignal) -> Result<Request, JsValue> {
    let init = RequestInit::new();
    init.set_method("GET");
    init.set_signal(Some(signal));
    if let Some(range) = range {
        // Chromium serialises parallel ranges of one URL behind its cache lock, and Cache.put throws on a 206.
        init.set_cache(RequestCache::NoStore);
        let headers = Headers::new()?;
        headers.set("range", &range_header(range))?;
        init.set_headers(&headers);
    }
    Request::new_with_str_and_init(url, &init)
}

/// What is known of a body before it is read.
struct Expected {
    /// Its length, 0 if it is not known.
    bytes: u64,
    /// Whether the server has said so itself, so that the connection ends with them.
    is_told: bool,
}

/// Checks the head of an answer and gives what to expect of its body.
fn check(url: &str, response: &Response, range: Option<&Range<u64>>) -> Result<Expected, FetchError> {
    let header = |name: &str| response.headers().get(name).ok().flatten();
    let mut head = Head::new(response.status(), header);
    if range.is_none() {
        // A browser undoes the encoding of a whole file.
        head.content_encoding = None;
    }
    check_head(url, &head, range)?;
    let told = header("content-length").and_then(|text| text.parse().ok());
    check_limit(url, told.unwrap_or(0), range)?;
    let bytes = range.map(|range| range.end - range.start).or(told).unwrap_or(0);
    Ok(Expected { bytes, is_told: range.is_some() && told.is_some() })
}

/// A body that is too long must not be read to its end.
fn check_limit(url: &str, found: u64, range: Option<&Range<u64>>) -> Result<(), FetchError> {
    match check_body(url, found, range) {
        Err(error @ FetchError::TooLarge { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn append(bytes: &mut Vec<u8>, chunk: &Uint8Array) {
    let before = bytes.len();
    bytes.resize(before + chunk.length() as usize, 0);
    chunk.copy_to(&mut bytes[before..]);
}
