//! Requests that upstreams answer: checked here, sent with known fields only, and passed back byte for byte.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};

use super::listening::Late;
use super::{ApiError, App};
use crate::config::duration;
use crate::traces::Span;
use crate::upstream::{Events, Reply, StreamReply, Upstreams};

/// Fields that are sent on; all others, a request's own templates among them, stay here.
const FIELDS: &[&str] = &[
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "n",
    "ignore_eos",
];
/// Pieces that wait for a slow client before the upstream waits for it, too.
const PIECES_AHEAD: usize = 16;

/// Has an upstream answer a request that was checked.
pub async fn forward(
    app: &Arc<App>,
    span: &Span,
    upstreams: Arc<Upstreams>,
    model: &str,
    path: &str,
    given: Map<String, Value>,
    is_streamed: bool,
) -> Result<Response, ApiError> {
    let known = given.into_iter().filter(|(name, value)| FIELDS.contains(&name.as_str()) && !value.is_null());
    let body: Map<String, Value> = known.collect();
    let first = duration(app.config.deadlines.first_token_ms);
    let reply = tokio::select! {
        reply = timeout(first, upstreams.send(model, path, Value::Object(body), span)) => reply,
        () = app.ending.cancelled() => return Err(ApiError::Ending),
    };
    match reply.map_err(|_| ApiError::from(Late::FirstToken))?? {
        Reply::Stream(stream) if is_streamed => Ok(pass_on(app, upstreams, stream)),
        Reply::Stream(stream) => Err(upstreams.broken(&stream, "is a stream, which was not asked for").into()),
        Reply::Whole(status, _) if status.is_success() && is_streamed => {
            Err(ApiError::Upstream("the upstream does not stream".to_owned()))
        }
        Reply::Whole(status, mut whole) if status.is_success() => {
            whole["model"] = Value::from(model);
            Ok(Json(whole).into_response())
        }
        Reply::Whole(_, error) => {
            let message = error["error"]["message"].as_str().or(error["message"].as_str());
            Err(ApiError::Refused(message.unwrap_or("it does not say why").to_owned()))
        }
    }
}

/// A response of an upstream's events. When the client goes away, the connection to the upstream is dropped.
fn pass_on(app: &Arc<App>, upstreams: Arc<Upstreams>, stream: StreamReply) -> Response {
    let (pieces, receiver) = channel::<Bytes>(PIECES_AHEAD);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let _under_way = app.under_way.subscribe(); // keeps the worker from ending before the answer does
        let error = tokio::select! {
            result = relay(&app, &upstreams, stream, &pieces) => result.err(),
            () = pieces.closed() => None,
            () = app.ending.cancelled() => Some(ApiError::Ending),
        };
        if let Some(error) = error {
            tracing::warn!(code = error.code(), "a stream ended early");
            let body = serde_json::to_string(&error.body()).unwrap_or_default();
            // Behind a line end: the upstream may have stopped in the middle of an event.
            let _ = pieces.send(format!("\n\nevent: error\ndata: {body}\n\n").into()).await;
        }
    });
    let next = |mut receiver: tokio::sync::mpsc::Receiver<Bytes>| async move {
        receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(receiver, next)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn relay(
    app: &App,
    upstreams: &Upstreams,
    mut stream: StreamReply,
    pieces: &Sender<Bytes>,
) -> Result<(), ApiError> {
    let deadlines = &app.config.deadlines;
    let total = Instant::now() + duration(deadlines.total_ms);
    let (mut events, mut is_complete) = (Events::default(), false);
    loop {
        let between = Instant::now() + duration(deadlines.between_tokens_ms);
        let late = if between < total { Late::BetweenTokens } else { Late::Total };
        let Ok(bytes) = timeout_at(between.min(total), upstreams.next(&mut stream)).await else {
            if late == Late::BetweenTokens {
                let _ = upstreams.broken(&stream, "stalled");
            }
            return Err(late.into());
        };
        let Some(bytes) = bytes? else { break };
        let complete = events.push(&bytes).map_err(|_| upstreams.broken(&stream, "is no stream of events"))?;
        is_complete |= complete.iter().any(|data| data == "[DONE]");
        if timeout_at(total, pieces.send(bytes.into())).await.map_err(|_| ApiError::from(Late::Total))?.is_err() {
            return Ok(()); // the client went away
        }
    }
    match is_complete {
        true => Ok(()),
        false => Err(upstreams.broken(&stream, "ended before it was complete").into()),
    }
}
