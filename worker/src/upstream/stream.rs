//! An upstream's answer as it comes, no later than deadlines allow.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::UpstreamError;
use super::events::Events;
use super::pool::{Place, Upstream};
use crate::config::{self, duration};
use crate::traces::Span;

/// How long the end of an answer's connection is waited for behind its last event.
const END: Duration = Duration::from_millis(20);

/// When parts of an answer are late.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// When the request began.
    pub begun: Instant,
    /// The first text.
    pub first_by: Instant,
    /// From one text to the next.
    pub between: Duration,
    /// The whole answer.
    pub total_by: Instant,
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// That of the first token.
    FirstToken,
    /// That between two tokens.
    BetweenTokens,
    /// That of the whole answer.
    Total,
}

/// An answer that has begun. Dropping it ends it at the upstream, too.
pub struct Stream {
    response: Response,
    upstream: Arc<Upstream>,
    events: Events,
    deadlines: Deadlines,
    asked: Instant,
    /// When the next text is late.
    next_by: Instant,
    /// Whether a text came since it was last waited for one, and whether one ever did.
    has_text: bool,
    has_begun: bool,
    /// Whether its end, good or bad, was told to the breaker.
    is_over: bool,
    usage: Usage,
    _place: Place,
    /// Ends with it.
    span: Span,
}

/// Tokens of an answer, as its upstream counts them; of one that doesn't, events with text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that had not to be read.
    pub cached_tokens: usize,
    /// Of the answer.
    pub tokens: usize,
}

/// A part of an answer.
pub struct Part {
    /// As it came.
    pub bytes: Vec<u8>,
    /// Events that it completes.
    pub chunks: Vec<Value>,
    /// Whether it is the last one.
    pub is_last: bool,
}

impl Deadlines {
    /// Those of a request that begins now.
    pub fn begin(config: &config::Deadlines) -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            first_by: now + duration(config.first_token_ms),
            between: duration(config.between_tokens_ms),
            total_by: now + duration(config.total_ms),
        }
    }

    /// Whether an upstream that was asked at an instant, and says nothing, is to blame where the first token is late: it had most of
    /// the time, and not what others had left.
    pub(super) fn blames(&self, asked: Instant) -> bool {
        asked.elapsed() * 2 > self.first_by - self.begun
    }
}

impl Stream {
    pub(super) fn new(
        response: Response,
        upstream: Arc<Upstream>,
        deadlines: Deadlines,
        asked: Instant,
        place: Place,
        span: Span,
    ) -> Self {
        Self {
            response,
            upstream,
            events: Events::default(),
            next_by: deadlines.first_by,
            deadlines,
            asked,
            has_text: false,
            has_begun: false,
            is_over: false,
            usage: Usage::default(),
            _place: place,
            span,
        }
    }

    /// The next part, of which one is the last. Errors are told to the upstream's breaker.
    pub async fn next(&mut self) -> Result<Part, UpstreamError> {
        if std::mem::take(&mut self.has_text) {
            self.next_by = Instant::now() + self.deadlines.between;
        }
        let bytes = match timeout_at(self.next_by.min(self.deadlines.total_by), self.response.chunk()).await {
            Err(_) => return Err(self.late()),
            Ok(Err(_)) => return Err(self.broken("broke off")),
            Ok(Ok(None)) => return Err(self.broken("ended before it was complete")),
            Ok(Ok(Some(bytes))) => bytes.to_vec(),
        };
        let Ok(complete) = self.events.push(&bytes) else { return Err(self.broken("is no stream of events")) };
        let mut part = Part { bytes, chunks: Vec::with_capacity(complete.len()), is_last: false };
        for data in complete {
            if data == "[DONE]" {
                self.is_over = true;
                self.upstream.breaker.succeeded();
                part.is_last = true;
                break;
            }
            let Ok(chunk) = serde_json::from_str::<Value>(&data) else { return Err(self.broken("is no JSON")) };
            if !chunk["error"].is_null() {
                return Err(self.broken("ended with an error"));
            }
            self.look(&chunk);
            part.chunks.push(chunk);
        }
        if part.is_last {
            // The connection can be used again where its end has come, too, which is mostly right behind.
            let _ = timeout(END, self.response.chunk()).await;
        }
        Ok(part)
    }

    /// Comments and the empty event that many servers begin with are no sign of a token; behind the first one, an event may
    /// stand for a token that completes no character.
    fn look(&mut self, chunk: &Value) {
        let choices = chunk["choices"].as_array().map_or(&[][..], Vec::as_slice);
        if !self.has_begun && choices.iter().any(has_text) {
            self.has_begun = true;
            self.upstream.breaker.began();
        }
        self.has_text |= self.has_begun && !choices.is_empty();
        match &chunk["usage"] {
            Value::Object(usage) => {
                let count = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default() as usize;
                self.usage = Usage {
                    prompt_tokens: count(usage.get("prompt_tokens")),
                    cached_tokens: count(
                        usage.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens")),
                    ),
                    tokens: count(usage.get("completion_tokens")),
                };
            }
            _ => self.usage.tokens += choices.iter().filter(|choice| has_text(choice)).count(),
        }
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn late(&mut self) -> UpstreamError {
        let deadline = match (self.deadlines.total_by <= self.next_by, self.has_begun) {
            (true, _) => Deadline::Total,
            (false, false) => Deadline::FirstToken,
            (false, true) => Deadline::BetweenTokens,
        };
        match deadline {
            Deadline::Total => self.is_over = true,
            Deadline::FirstToken | Deadline::BetweenTokens => self.stalled(),
        }
        UpstreamError::Late(deadline)
    }

    fn stalled(&mut self) {
        self.is_over = true;
        if self.has_begun || self.deadlines.blames(self.asked) {
            self.broken("stalled");
        }
    }

    /// When the whole answer is late.
    pub fn total_by(&self) -> Instant {
        self.deadlines.total_by
    }

    /// Takes note that the answer is none.
    pub fn broken(&mut self, how: &'static str) -> UpstreamError {
        self.is_over = true;
        self.upstream.failed();
        self.span.fail("broken");
        tracing::warn!(upstream = self.upstream.config.base_url, how, "an upstream's answer failed");
        UpstreamError::Broken(how)
    }
}

/// Whether a choice carries text, of an answer or of the thoughts before it.
fn has_text(choice: &Value) -> bool {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let delta = choice["delta"].as_object();
    is_text(&choice["text"])
        || delta.is_some_and(|delta| delta.iter().any(|(name, value)| name != "role" && is_text(value)))
}

impl Drop for Stream {
    /// Whoever waits for it may keep the same deadline and be the first to notice.
    fn drop(&mut self) {
        if !self.is_over && !self.has_text && Instant::now() >= self.next_by {
            self.stalled();
        }
    }
}
