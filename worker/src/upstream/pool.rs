//! Which upstream a request goes to, and how its answer begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::breaker::Breaker;
use super::stream::{Deadline, Deadlines, Stream};
use crate::config;
use crate::traces::{STATUS, Span, TRACEPARENT};

/// Bytes of an error beyond which it is not read.
const LONGEST_ERROR: usize = 1 << 16;
/// Seconds after which a client is told to try again where no upstream says how many.
const SOON: u64 = 1;

/// All upstreams.
pub struct Upstreams {
    client: Client,
    upstreams: Vec<Arc<Upstream>>,
    /// Draws among them.
    turn: AtomicU64,
    /// Answers under way at once.
    room: Arc<Semaphore>,
    most: usize,
}

/// A place among the answers under way, given back when it is dropped.
pub struct Place(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// A request on its way to an upstream.
pub struct Sending {
    /// Its place.
    pub place: Place,
    /// How long its answer may take.
    pub deadlines: Deadlines,
    /// What it is a part of.
    pub span: Span,
}

pub(super) struct Upstream {
    pub(super) config: config::Upstream,
    headers: HeaderMap,
    pub(super) breaker: Breaker,
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
    /// The upstream refused the request as the client's mistake.
    #[error("the upstream refused the request: {0}")]
    Refused(String),
    /// A deadline has passed.
    #[error("the upstream's answer missed a deadline")]
    Late(Deadline),
    /// A key is not in the environment.
    #[error("the environment variable {0}, which an upstream's api_key_env names, is not set or can't be a header")]
    Key(String),
    /// The client can't be made.
    #[error("the client for upstreams can't be made: {0}")]
    Client(String),
}

impl Upstreams {
    /// Reads keys from the environment; connects to nothing yet. So many answers may be under way at once.
    pub fn new(upstreams: &[config::Upstream], most: usize) -> Result<Self, UpstreamError> {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| UpstreamError::Client(error.to_string()))?;
        let upstreams = upstreams.iter().map(|config| Upstream::new(config).map(Arc::new)).collect::<Result<_, _>>()?;
        let most = most.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(most));
        Ok(Self { client, upstreams, turn: AtomicU64::new(0), room, most })
    }

    /// A place among the answers under way.
    pub fn reserve(&self) -> Result<Place, UpstreamError> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        place.map(Place).map_err(|_| UpstreamError::Busy { retry_after: SOON })
    }

    /// Names of all models that some upstream has.
    pub fn models(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.upstreams.iter().flat_map(|upstream| upstream.config.model_map.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether there is a place, and some upstream of a model takes requests.
    pub fn is_ready(&self, model: &str) -> bool {
        let now = Instant::now();
        self.room.available_permits() > 0 && self.of(model).any(|(_, upstream)| !upstream.breaker.is_shut(now))
    }

    /// Answers under way.
    pub fn running(&self) -> usize {
        self.most - self.room.available_permits()
    }

    /// Numbers of this moment.
    pub fn snapshots(&self) -> Vec<UpstreamSnapshot> {
        let now = Instant::now();
        let snapshot = |upstream: &Arc<Upstream>| UpstreamSnapshot {
            requests: upstream.requests.load(Ordering::Relaxed),
            failures: upstream.failures.load(Ordering::Relaxed),
            is_shut: upstream.breaker.is_shut(now),
        };
        self.upstreams.iter().map(snapshot).collect()
    }

    fn of(&self, model: &str) -> impl Iterator<Item = (usize, &Arc<Upstream>)> {
        let has = move |(_, upstream): &(usize, &Arc<Upstream>)| upstream.config.model_map.contains_key(model);
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

    /// Sends a request for a stream to `path`, as `/v1/completions`, and waits until an answer begins; `body` names no model, `model`
    /// is what it is called here. What is sent, and how it ends, is a part of the request's span.
    pub async fn send(
        &self,
        model: &str,
        path: &str,
        mut body: Value,
        sending: Sending,
    ) -> Result<Stream, UpstreamError> {
        let Sending { place, deadlines, span } = sending;
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
            let asked = tokio::time::Instant::now();
            match self.try_one(upstream, path, &body, &deadlines, &call).await {
                Ok(response) => return Ok(Stream::new(response, Arc::clone(upstream), deadlines, asked, place, call)),
                Err(Refusal::Client(reason)) => {
                    upstream.breaker.began();
                    return Err(UpstreamError::Refused(reason));
                }
                Err(Refusal::Busy(seconds)) => {
                    // It lives, and says that it has enough to do.
                    upstream.breaker.began();
                    call.fail("busy");
                    retry_after = Some(retry_after.map_or(seconds, |known| known.min(seconds)));
                }
                Err(Refusal::Late) => {
                    if deadlines.blames(asked) {
                        upstream.failed();
                    }
                    call.fail("late");
                    return Err(UpstreamError::Late(Deadline::FirstToken));
                }
                Err(Refusal::Failed(reason)) => {
                    upstream.failed();
                    call.fail("failed");
                    tracing::warn!(upstream = upstream.config.base_url, reason, "an upstream failed");
                    reasons.push(reason);
                }
            }
        }
        match retry_after {
            Some(retry_after) => Err(UpstreamError::Busy { retry_after }),
            None => Err(UpstreamError::Failed(reasons.join("; "))),
        }
    }

    async fn try_one(
        &self,
        upstream: &Upstream,
        path: &str,
        body: &Value,
        deadlines: &Deadlines,
        span: &Span,
    ) -> Result<Response, Refusal> {
        let url = format!("{}{path}", upstream.config.base_url.trim_end_matches('/'));
        let mut headers = upstream.headers.clone();
        headers.extend(span.traceparent().map(|parent| (HeaderName::from_static(TRACEPARENT), parent)));
        let request = self.client.post(url).headers(headers).json(body).send();
        let by = tokio::time::Instant::now() + config::duration(upstream.config.first_byte_ms);
        let response = match timeout_at(by.min(deadlines.first_by), request).await {
            // Another upstream's silence may have used the time up.
            Err(_) if by > deadlines.first_by => return Err(Refusal::Late),
            Err(_) => return Err(Refusal::Failed("it did not answer in time".to_owned())),
            Ok(Err(error)) if error.is_connect() => return Err(Refusal::Failed("it can't be reached".to_owned())),
            Ok(Err(_)) => return Err(Refusal::Failed("the connection broke".to_owned())),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        span.note(STATUS, i64::from(status.as_u16()));
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match status {
            StatusCode::OK => {
                let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                match kind.starts_with("text/event-stream") {
                    true => Ok(response),
                    false => Err(Refusal::Failed("its answer is no stream of events".to_owned())),
                }
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Refusal::Busy(seconds.unwrap_or(SOON))),
            StatusCode::SERVICE_UNAVAILABLE if seconds.is_some() => Err(Refusal::Busy(seconds.unwrap_or(SOON))),
            // The operator's mistake, not the client's.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Err(Refusal::Failed(format!("it answers with {status}")))
            }
            status if status.is_client_error() => {
                let error = timeout_at(by.min(deadlines.first_by), error(response)).await.ok().flatten();
                let message = error.as_ref().and_then(|error| {
                    error["error"]["message"].as_str().or(error["message"].as_str()).map(str::to_owned)
                });
                Err(Refusal::Client(message.unwrap_or_else(|| format!("it answers with {status}"))))
            }
            status => Err(Refusal::Failed(format!("it answers with {status}"))),
        }
    }
}

enum Refusal {
    Busy(u64),
    Failed(String),
    /// The request's own deadline has passed.
    Late,
    /// It can't be answered anywhere.
    Client(String),
}

async fn error(mut response: Response) -> Option<Value> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > LONGEST_ERROR {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).ok()
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

    /// Takes note that it failed.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.breaker.failed(Instant::now());
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
        let upstreams = Upstreams::new(&[upstream(3), upstream(1)], 1).unwrap();
        let first: Vec<usize> = (0..8).map(|_| upstreams.order("m")[0]).collect();
        assert_eq!(first, [0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(upstreams.order("other").is_empty());
        let place = upstreams.reserve().unwrap();
        assert_eq!(upstreams.reserve().err(), Some(UpstreamError::Busy { retry_after: SOON }));
        drop(place);
        assert!(upstreams.reserve().is_ok());
    }
}
