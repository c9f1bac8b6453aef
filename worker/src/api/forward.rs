//! Answers of upstreams, passed on byte for byte or put together.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::listening::Late;
use super::{ApiError, App};
use crate::config::duration;
use crate::scheduler::{Finish, FinishReason};
use crate::traces::Span;
use crate::upstream::{Deadlines, Sending, Stream, Upstreams, Usage};

/// Pieces that wait for a slow client before the upstream waits for it, too.
const PIECES_AHEAD: usize = 16;
/// Time for a last event to be taken.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of a whole answer beyond which an upstream is not believed.
const LONGEST_ANSWER: usize = 16 << 20;

/// Has an upstream begin the answer to a request that was checked.
pub async fn send(
    app: &App,
    span: &Span,
    upstreams: &Upstreams,
    model: &str,
    path: &str,
    body: Value,
) -> Result<Stream, ApiError> {
    let place = upstreams.reserve()?;
    let sending = Sending { place, deadlines: Deadlines::begin(&app.config.deadlines), span: span.clone() };
    tokio::select! {
        stream = upstreams.send(model, path, body, sending) => Ok(stream?),
        () = app.ending.cancelled() => Err(ApiError::Ending),
    }
}

/// The texts of a whole answer; the first one's end counts the tokens of all.
pub async fn whole(app: &App, stream: Stream, count: usize) -> Result<Vec<(String, Finish)>, ApiError> {
    tokio::select! {
        answers = assemble(stream, count) => answers,
        () = app.ending.cancelled() => Err(ApiError::Ending),
    }
}

async fn assemble(mut stream: Stream, count: usize) -> Result<Vec<(String, Finish)>, ApiError> {
    let finish = Finish { reason: FinishReason::Stop, prompt_tokens: 0, cached_tokens: 0, tokens: 0 };
    let mut answers = vec![(String::new(), finish); count];
    let mut length = 0;
    loop {
        let part = stream.next().await?;
        length += part.bytes.len();
        if length > LONGEST_ANSWER {
            return Err(ApiError::Upstream(format!("the upstream's answer has more than {LONGEST_ANSWER} bytes")));
        }
        for choice in part.chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten() {
            let index = choice["index"].as_u64().unwrap_or_default();
            let Some((text, finish)) = answers.get_mut(index as usize) else { continue };
            text.push_str(choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default());
            if choice["finish_reason"] == "length" {
                finish.reason = FinishReason::Length;
            }
        }
        if part.is_last {
            let Usage { prompt_tokens, cached_tokens, tokens } = stream.usage();
            for (at, (_, finish)) in answers.iter_mut().enumerate() {
                let tokens = if at == 0 { tokens } else { 0 };
                *finish = Finish { prompt_tokens, cached_tokens, tokens, ..*finish };
            }
            return Ok(answers);
        }
    }
}

/// A response of an upstream's events. When the client goes away, the connection to the upstream is dropped.
pub fn pass_on(app: &Arc<App>, stream: Stream) -> Response {
    let (pieces, receiver) = channel::<Bytes>(PIECES_AHEAD);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let _under_way = app.under_way.subscribe(); // keeps the worker from ending before the answer does
        let error = tokio::select! {
            result = relay(&app, stream, &pieces) => result.err(),
            () = pieces.closed() => None,
            () = app.ending.cancelled() => Some(ApiError::Ending),
        };
        if let Some(error) = error {
            tracing::warn!(code = error.code(), "a stream ended early");
            let body = serde_json::to_string(&error.body()).unwrap_or_default();
            // Behind a line end: the upstream may have stopped in the middle of an event.
            let _ = timeout(GRACE, pieces.send(format!("\n\nevent: error\ndata: {body}\n\n").into())).await;
        }
    });
    let next = |mut receiver: Receiver<Bytes>| async move {
        receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(receiver, next)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn relay(app: &App, mut stream: Stream, pieces: &Sender<Bytes>) -> Result<(), ApiError> {
    let total = Instant::now() + duration(app.config.deadlines.total_ms);
    loop {
        let part = stream.next().await?;
        let sent = timeout_at(total, pieces.send(part.bytes.into())).await.map_err(|_| ApiError::from(Late::Total))?;
        if sent.is_err() || part.is_last {
            return Ok(());
        }
    }
}
