//! Which upstream a request goes to, and how its answer begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use super::breaker::Breaker;
use crate::config;
use crate::traces::{STATUS, Span, TRACEPARENT};

/// Bytes of an answer that is not streamed, beyond which an upstream is not believed.
const LONGEST_ANSWER: usize = 16 << 20;
/// Seconds after which a client is told to try again where no upstream says how many.
const SOON: u64 = 1;

/// All upstreams.
pub struct Upstreams {
    client: Client,
    upstreams: Vec<Upstream>,
    /// Draws among them.
    turn: AtomicU64,
}

struct Upstream {
    config: config::Upstream,
    headers: HeaderMap,
    breaker: Breaker,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// Numbers of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamSnapshot {
    /// Requests sent.
    pub requests: u64,
    /// Of these, failures.
    pub failures: u64,
    /// Whether nothing is sent at present.
    pub is_shut: bool,
}

/// An answer that has begun.
pub enum Reply {
    /// A stream of events, and which upstream sends it.
    Stream(StreamReply),
    /// A whole JSON document with its status.
    Whole(StatusCode, Value),
}

/// A stream that has begun.
pub struct StreamReply {
    response: Response,
    upstream: usize,
    /// Ends with it.
    span: Span,
}

/// Why no upstream answers. Addresses are not told: they are the operator's matter.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpstreamError {
    /// None takes requests at present.
    #[error("no upstream takes requests at present: try again in {retry_after} s")]
    Busy {
        /// Seconds.
        retry_after: u64,
    },
    /// All that were asked failed.
    #[error("no upstream answered: {0}")]
    Failed(String),
    /// The upstream's answer broke off or made no sense.
    #[error("the upstream's answer {0}")]
    Broken(&'static str),
    /// A key is not in the environment.
    #[error("the environment variable {0}, which an upstream's api_key_env names, is not set or can't be a header")]
    Key(String),
    /// The client can't be made.
    #[error("the client for upstreams can't be made: {0}")]
    Client(String),
}

impl Upstreams {
    /// Reads keys from the environment; connects to nothing yet.
    pub fn new(upstreams: &[config::Upstream]) -> Result<Self, UpstreamError> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| UpstreamError::Client(error.to_string()))?;
        let upstreams = upstreams.iter().map(Upstream::new).collect::<Result<_, _>>()?;
        Ok(Self { client, upstreams, turn: AtomicU64::new(0) })
    }

    /// Names of all models that some upstream has.
    pub fn models(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.upstreams.iter().flat_map(|upstream| upstream.config.model_map.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether some upstream of a model takes requests.
    pub fn is_ready(&self, model: &str) -> bool {
        let now = Instant::now();
        self.of(model).any(|(_, upstream)| !upstream.breaker.is_shut(now))
    }

    /// Numbers of this moment.
    pub fn snapshots(&self) -> Vec<UpstreamSnapshot> {
        let now = Instant::now();
        let snapshot = |upstream: &Upstream| UpstreamSnapshot {
            requests: upstream.requests.load(Ordering::Relaxed),
            failures: upstream.failures.load(Ordering::Relaxed),
            is_shut: upstream.breaker.is_shut(now),
        };
        self.upstreams.iter().map(snapshot).collect()
    }

    fn of(&self, model: &str) -> impl Iterator<Item = (usize, &Upstream)> {
        let has = move |(_, upstream): &(usize, &Upstream)| upstream.config.model_map.contains_key(model);
        self.upstreams.iter().enumerate().filter(has)
    }

    /// A model's upstreams, each in turn first as often as its weight says.
    fn order(&self, model: &str) -> Vec<usize> {
        let mut order: Vec<usize> = self.of(model).map(|(at, _)| at).collect();
        let weights: u64 = self.of(model).map(|(_, upstream)| u64::from(upstream.config.weight)).sum();
        let mut turn = self.turn.fetch_add(1, Ordering::Relaxed) % weights.max(1);
        for place in 0..order.len() {
            let weight = u64::from(self.upstreams[order[place]].config.weight);
            if turn < weight {
                order[..=place].rotate_right(1);
                break;
            }
            turn -= weight;
        }
        order
    }

    /// Sends a request to `path`, as `/v1/completions`, and waits for the first byte of an answer; `body` names the model as it
    /// is called here. What is sent, and how it ends, is a part of `span`.
    pub async fn send(&self, model: &str, path: &str, mut body: Value, span: &Span) -> Result<Reply, UpstreamError> {
        let (mut reasons, mut retry_after) = (Vec::new(), None::<u64>);
        for at in self.order(model) {
            let upstream = &self.upstreams[at];
            if !upstream.breaker.admits(Instant::now()) {
                retry_after.get_or_insert(SOON);
                continue;
            }
            body["model"] = Value::from(upstream.config.model_map.get(model).map_or(model, String::as_str));
            upstream.requests.fetch_add(1, Ordering::Relaxed);
            let call = span.call("upstream");
            call.note("huatuo.upstream", at as i64);
            match self.try_one(at, path, &body, &call).await {
                Ok(reply) => {
                    upstream.breaker.succeeded();
                    return Ok(reply);
                }
                Err(Refusal::Busy(seconds)) => {
                    // It lives, and says that it has enough to do.
                    upstream.breaker.succeeded();
                    call.fail("busy");
                    retry_after = Some(retry_after.map_or(seconds, |known| known.min(seconds)));
                }
                Err(Refusal::Failed(reason)) => {
                    self.failed(at);
                    call.fail("failed");
                    tracing::warn!(upstream = upstream.config.base_url, reason, "an upstream failed");
                    reasons.push(reason);
                }
            }
        }
        match (retry_after, reasons.is_empty()) {
            (Some(retry_after), _) => Err(UpstreamError::Busy { retry_after }),
            (None, _) => Err(UpstreamError::Failed(reasons.join("; "))),
        }
    }

    async fn try_one(&self, at: usize, path: &str, body: &Value, span: &Span) -> Result<Reply, Refusal> {
        let upstream = &self.upstreams[at];
        let url = format!("{}{path}", upstream.config.base_url.trim_end_matches('/'));
        let mut headers = upstream.headers.clone();
        headers.extend(span.traceparent().map(|parent| (HeaderName::from_static(TRACEPARENT), parent)));
        let request = self.client.post(url).headers(headers).json(body).send();
        let deadline = config::duration(upstream.config.first_byte_ms);
        let response = match tokio::time::timeout(deadline, request).await {
            Err(_) => return Err(Refusal::Failed("it did not answer in time".to_owned())),
            Ok(Err(error)) if error.is_connect() => return Err(Refusal::Failed("it can't be reached".to_owned())),
            Ok(Err(_)) => return Err(Refusal::Failed("the connection broke".to_owned())),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        span.note(STATUS, i64::from(status.as_u16()));
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match status {
            StatusCode::TOO_MANY_REQUESTS => return Err(Refusal::Busy(seconds.unwrap_or(SOON))),
            StatusCode::SERVICE_UNAVAILABLE if seconds.is_some() => return Err(Refusal::Busy(seconds.unwrap_or(SOON))),
            status if status.is_redirection() => return Err(Refusal::Failed("it redirects".to_owned())),
            status if status.is_server_error() => return Err(Refusal::Failed(format!("it answers with {status}"))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                // The operator's mistake, not the client's.
                return Err(Refusal::Failed(format!("it answers with {status}")));
            }
            _ => {}
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if status == StatusCode::OK && kind.starts_with("text/event-stream") {
            return Ok(Reply::Stream(StreamReply { response, upstream: at, span: span.clone() }));
        }
        let whole = tokio::time::timeout(deadline, whole(response)).await;
        let whole = whole.map_err(|_| Refusal::Failed("its answer did not arrive in time".to_owned()))?;
        let json = whole.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        match json {
            Some(json) if json.is_object() => Ok(Reply::Whole(status, json)),
            _ => Err(Refusal::Failed("its answer is not JSON".to_owned())),
        }
    }

    /// Takes note that an upstream failed.
    fn failed(&self, at: usize) {
        let upstream = &self.upstreams[at];
        upstream.failures.fetch_add(1, Ordering::Relaxed);
        upstream.breaker.failed(Instant::now());
    }

    /// The next bytes of a stream, nothing at its end. An error is told to the upstream's breaker.
    pub async fn next(&self, stream: &mut StreamReply) -> Result<Option<Vec<u8>>, UpstreamError> {
        match stream.response.chunk().await {
            Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
            Err(_) => Err(self.broken(stream, "broke off")),
        }
    }

    /// Takes note that a stream made no sense.
    pub fn broken(&self, stream: &StreamReply, how: &'static str) -> UpstreamError {
        self.failed(stream.upstream);
        stream.span.fail("broken");
        tracing::warn!(upstream = self.upstreams[stream.upstream].config.base_url, how, "an upstream's answer failed");
        UpstreamError::Broken(how)
    }
}

enum Refusal {
    Busy(u64),
    Failed(String),
}

async fn whole(mut response: Response) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

impl Upstream {
    fn new(config: &config::Upstream) -> Result<Self, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some(name) = &config.api_key_env {
            let key = || UpstreamError::Key(name.clone());
            let value = std::env::var(name).map_err(|_| key())?;
            let mut value = HeaderValue::from_str(&format!("Bearer {value}")).map_err(|_| key())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
            .insert(HeaderName::from_static("accept"), HeaderValue::from_static("text/event-stream, application/json"));
        Ok(Self {
            config: config.clone(),
            headers,
            breaker: Breaker::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_take_turns_by_their_weights() {
        let upstream = |weight| config::Upstream {
            base_url: format!("http://127.0.0.1:{weight}"),
            model_map: [("m".to_owned(), "n".to_owned())].into(),
            api_key_env: None,
            first_byte_ms: 1000,
            weight,
        };
        let upstreams = Upstreams::new(&[upstream(3), upstream(1)]).unwrap();
        let first: Vec<usize> = (0..8).map(|_| upstreams.order("m")[0]).collect();
        assert_eq!(first, [0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(upstreams.order("other").is_empty());
    }
}
