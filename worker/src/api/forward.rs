//! Answers of upstreams, passed on byte for byte or put together.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::listening::{Late, unless_ending};
use super::stream::{GRACE, until_cut};
use super::{ApiError, App};
use crate::scheduler::{Finish, FinishReason};
use crate::traces::Span;
use crate::upstream::{Deadlines, Sending, Stream, Upstreams, Usage};

/// Pieces that wait for a slow client before the upstream waits for it, too.
const PIECES_AHEAD: usize = 16;
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
    Ok(unless_ending(app, upstreams.send(model, path, body, sending)).await??)
}

/// The texts of a whole answer; the first one's end counts the tokens of all.
pub async fn whole(app: &App, stream: Stream, count: usize) -> Result<Vec<(String, Finish)>, ApiError> {
    unless_ending(app, assemble(stream, count)).await?
}

async fn assemble(mut stream: Stream, count: usize) -> Result<Vec<(String, Finish)>, ApiError> {
    let mut answers = vec![(String::new(), None::<FinishReason>); count];
    let mut length = 0;
    loop {
        let part = stream.next().await?;
        length += part.bytes.len();
        if length > LONGEST_ANSWER {
            return Err(ApiError::Upstream(format!("the upstream's answer has more than {LONGEST_ANSWER} bytes")));
        }
        for choice in part.chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten() {
            let index = choice["index"].as_u64().unwrap_or_default();
            let Some((text, reason)) = answers.get_mut(index as usize) else { continue };
            text.push_str(choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default());
            match choice["finish_reason"].as_str() {
                None => {}
                Some("length") => *reason = Some(FinishReason::Length),
                Some("abort" | "content_filter" | "error") => return Err(stream.broken("was cut short").into()),
                Some(_) => *reason = Some(FinishReason::Stop),
            }
        }
        if part.is_last {
            let Usage { prompt_tokens, cached_tokens, tokens } = stream.usage();
            let mut left = tokens;
            let whole = answers.into_iter().map(|(text, reason)| {
                let tokens = std::mem::take(&mut left);
                Some((text, Finish { reason: reason?, prompt_tokens, cached_tokens, tokens }))
            });
            return whole.collect::<Option<_>>().ok_or_else(|| stream.broken("lacks a text that was asked for").into());
        }
    }
}

/// A response of an upstream's events. When the client goes away, the connection to the upstream is dropped.
pub fn pass_on(app: &Arc<App>, stream: Stream) -> Response {
    let (pieces, receiver) = channel::<Bytes>(PIECES_AHEAD);
    let (cut, is_cut) = oneshot::channel();
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let _under_way = app.under_way.subscribe(); // keeps the worker from ending before the answer does
        let error = tokio::select! {
            result = relay(stream, &pieces) => result.err(),
            () = pieces.closed() => None,
            () = app.ending.cancelled() => Some(ApiError::Ending),
        };
        if let Some(error) = error {
            app.metrics.count_broken_stream(error.code());
            tracing::warn!(code = error.code(), "a stream ended early");
            let body = serde_json::to_string(&error.body()).unwrap_or_default();
            // Behind a line end: the upstream may have stopped in the middle of an event.
            let last = format!("\n\nevent: error\ndata: {body}\n\n");
            if timeout(GRACE, pieces.send(last.into())).await.is_err() {
                let _ = cut.send(());
            }
        }
    });
    let mut response = Response::new(Body::from_stream(until_cut(receiver, is_cut)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn relay(mut stream: Stream, pieces: &Sender<Bytes>) -> Result<(), ApiError> {
    loop {
        let part = stream.next().await?;
        let sent = timeout_at(stream.total_by(), pieces.send(part.bytes.into()))
            .await
            .map_err(|_| ApiError::from(Late::Total))?;
        if sent.is_err() || part.is_last {
            return Ok(());
        }
    }
}
