//! A request of unknown bytes to a worker with a small model: everything from its routes on, without a connection.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use huatuo_compute::Encoding;
use huatuo_generate::MetadataValue;
use huatuo_worker::Server;
use huatuo_worker::config::Config;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::small_models;

/// What clients of the worker send where an input says nothing else.
const USUAL: [(HeaderName, &str); 3] =
    [(HOST, "localhost"), (CONTENT_TYPE, "application/json"), (AUTHORIZATION, "Bearer 0123456789abcdef")];
/// Settings that keep answers short, and the worker's bounds near.
const SETTINGS: [&str; 7] = [
    "listen=127.0.0.1:0",
    "api_keys=[\"0123456789abcdef\"]",
    "limits.body_bytes=8192",
    "limits.max_tokens=4",
    "limits.references=2",
    "limits.prompt_characters=512",
    "scheduler.threads=1",
];
/// Longest that an answer of a few tokens may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes of the longest answer: references are the longest part of it.
const LONGEST: usize = 1 << 20;

/// A worker without connections, started with the first input.
struct Worker {
    runtime: Runtime,
    routes: Router,
}

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    // The same for all processes; it stays, since requests may have it loaded again.
    let path = std::env::temp_dir().join("huatuo-request-target.gguf");
    let written = path.with_extension(std::process::id().to_string());
    let (mut metadata, tokens) = small_models::byte_level();
    metadata.push(("tokenizer.chat_template".to_owned(), MetadataValue::Text(TEMPLATE.to_owned())));
    std::fs::write(&written, small_models::gguf("qwen2", Encoding::Q8_0, metadata, tokens)).expect("a small model");
    std::fs::rename(&written, &path).expect("a folder for temporary files");
    let model = format!("models=[{{name=\"small\",path={:?}}}]", path.display().to_string());
    let settings: Vec<String> = SETTINGS.map(str::to_owned).into_iter().chain([model]).collect();
    let config = Config::read(None, [], &settings).expect("a sound configuration");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(Server::open(config)).expect("a sound worker");
    Worker { routes: server.routes(), runtime }
});

const TEMPLATE: &str =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// A request as HTTP/1 writes it: `METHOD PATH`, lines of headers, an empty line, the body. Headers that a client always sends are
/// added where they are missing. Whatever it asks, the answer is one that the worker documents, and comes.
pub fn request(bytes: &[u8]) {
    let Some(request) = parse(bytes) else { return };
    let is_head_or_preflight = request.method() == "HEAD" || request.method() == "OPTIONS";
    let Worker { runtime, routes } = &*WORKER;
    let path = request.uri().path().to_owned();
    let answer = runtime.block_on(async {
        let response = timeout(PATIENCE, routes.clone().oneshot(request)).await.expect("an answer begins in time");
        let (head, body) = response.expect("routes do not fail").into_parts();
        let body = timeout(PATIENCE, to_bytes(body, LONGEST)).await.expect("an answer ends in time");
        (head, body.expect("an answer is not too long"))
    });
    let (head, body) = answer;
    match head.status {
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {}
        // What was not asked to be loaded is not; nothing else fails here.
        StatusCode::SERVICE_UNAVAILABLE if path.starts_with("/v1/") || path.starts_with("/health") => {}
        status if status.is_client_error() => {
            let is_typed = is_head_or_preflight || serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(typed);
            assert!(is_typed, "{status} without a typed error: {}", String::from_utf8_lossy(&body));
        }
        status => panic!("{status}: {}", String::from_utf8_lossy(&body)),
    }
    if path.ends_with("/unload") {
        request_load(runtime, routes);
    }
}

fn typed(error: serde_json::Value) -> bool {
    error["error"]["code"].is_string() && error["error"]["message"].is_string()
}

/// What an input unloaded is there again for the next one.
fn request_load(runtime: &Runtime, routes: &Router) {
    let load = parse(b"POST /v1/models/small/load").expect("a sound request");
    let _ = runtime.block_on(routes.clone().oneshot(load)).expect("routes do not fail");
}

fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match bytes.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.next()?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let mut request = Request::builder().method(&line[..space]).uri(&line[space + 1..]);
    let headers = request.headers_mut()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    for (name, value) in USUAL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    request.body(Body::from(body.to_vec())).ok()
}
