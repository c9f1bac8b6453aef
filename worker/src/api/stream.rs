//! Server-sent events made one after the other.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::{ApiError, App};
use crate::config::duration;

/// Events that wait for a slow client before the answer waits for it, too.
const EVENTS_AHEAD: usize = 16;

/// What a last event needs to be told.
pub const GRACE: Duration = Duration::from_secs(2);

/// Where events of a response go.
pub struct Events(Sender<Event>);

/// The client went away.
pub struct Gone;

impl Events {
    /// Sends data as JSON.
    pub async fn json(&self, data: &impl Serialize) -> Result<(), Gone> {
        self.send(Event::default(), data).await
    }

    /// Sends a named event.
    pub async fn named(&self, name: &str, data: &impl Serialize) -> Result<(), Gone> {
        self.send(Event::default().event(name), data).await
    }

    /// Sends what ends OpenAI's streams.
    pub async fn done(&self) -> Result<(), Gone> {
        self.0.send(Event::default().data("[DONE]")).await.map_err(|_| Gone)
    }

    /// Sends an error as the last event.
    pub async fn error(&self, error: &ApiError) {
        // Who went away needs no error.
        let _ = self.named("error", &error.body()).await;
    }

    /// Ready when the client went away.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    async fn send(&self, event: Event, data: &impl Serialize) -> Result<(), Gone> {
        let event = event.json_data(data).map_err(|_| Gone)?; // numbers, texts and lists always have a JSON form
        self.0.send(event).await.map_err(|_| Gone)
    }
}

/// A response whose events `write` sends. When the client goes away, or reads nothing until the deadline of all answers, `write`
/// is dropped, wherever it waits, and with it what it listens to.
pub fn respond<F: Future<Output = Result<(), ApiError>> + Send + 'static>(
    app: &Arc<App>,
    write: impl FnOnce(Arc<Events>) -> F,
) -> Response {
    let (sender, receiver) = channel(EVENTS_AHEAD);
    let events = Arc::new(Events(sender));
    let written = write(Arc::clone(&events));
    let deadline = duration(app.config.deadlines.total_ms) + GRACE;
    let (cut, is_cut) = oneshot::channel();
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let is_told = tokio::select! {
            result = written => match result {
                Ok(()) => true,
                Err(error) => {
                    app.metrics.count_broken_stream(error.code());
                    tracing::warn!(code = error.code(), "a stream ended early");
                    tokio::time::timeout(GRACE, events.error(&error)).await.is_ok()
                }
            },
            () = events.gone() => true,
            () = tokio::time::sleep(deadline) => false,
        };
        if !is_told {
            let _ = cut.send(());
        }
    });
    Sse::new(until_cut(receiver, is_cut)).keep_alive(KeepAlive::default()).into_response()
}

/// What is received, and an error where it was cut: who reads too slowly to be told why must not take that for the end, so the
/// connection breaks.
pub fn until_cut<T>(receiver: Receiver<T>, is_cut: oneshot::Receiver<()>) -> impl Stream<Item = std::io::Result<T>> {
    stream::unfold((receiver, Some(is_cut)), |(mut receiver, is_cut)| async move {
        match (receiver.recv().await, is_cut) {
            (Some(item), is_cut) => Some((Ok(item), (receiver, is_cut))),
            (None, Some(is_cut)) => match is_cut.await {
                Ok(()) => Some((Err(std::io::Error::from(std::io::ErrorKind::TimedOut)), (receiver, None))),
                Err(_) => None,
            },
            (None, None) => None,
        }
    })
}
