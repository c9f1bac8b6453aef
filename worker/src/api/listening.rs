//! Waiting for the pieces of an answer, no longer than deadlines allow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::App;
use crate::config::duration;

/// Pieces of an answer. Dropping it ends the answer within one token.
pub struct Listening<T> {
    pieces: UnboundedReceiver<T>,
    app: Arc<App>,
    /// Keeps the worker from ending before the answer does.
    _under_way: Receiver<()>,
    between: Duration,
    /// When the next piece is late, and why.
    next_by: Instant,
    late: Late,
    total_by: Instant,
}

/// What is awaited, unless the worker ends before.
pub async fn unless_ending<T>(app: &App, awaited: impl Future<Output = T>) -> Result<T, Late> {
    tokio::select! {
        biased;
        result = awaited => Ok(result),
        () = app.ending.cancelled() => Err(Late::Ending),
    }
}

/// The same, unless `deadline` passes before.
pub async fn by<T>(app: &App, deadline: Duration, late: Late, awaited: impl Future<Output = T>) -> Result<T, Late> {
    unless_ending(app, timeout(deadline, awaited)).await?.map_err(|_| late)
}

/// Why no piece came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// References did not come by the first token's deadline.
    References,
    /// The first token's deadline has passed.
    FirstToken,
    /// The deadline between two tokens has passed.
    BetweenTokens,
    /// The whole answer's deadline has passed.
    Total,
    /// The worker ends.
    Ending,
    /// The model was stopped.
    Stopped,
}

impl<T> Listening<T> {
    /// Begins to listen.
    pub fn new(app: &Arc<App>, pieces: UnboundedReceiver<T>) -> Self {
        let (deadlines, now) = (&app.config.deadlines, Instant::now());
        Self {
            pieces,
            app: Arc::clone(app),
            _under_way: app.under_way.subscribe(),
            between: duration(deadlines.between_tokens_ms),
            next_by: now + duration(deadlines.first_token_ms),
            late: Late::FirstToken,
            total_by: now + duration(deadlines.total_ms),
        }
    }

    /// The next piece. `is_token` tells those that a token came with: what comes before them does not move the deadline.
    pub async fn next(&mut self, is_token: impl FnOnce(&T) -> bool) -> Result<T, Late> {
        let (by, late) = match self.next_by < self.total_by {
            true => (self.next_by, self.late),
            false => (self.total_by, Late::Total),
        };
        let received = tokio::select! {
            biased;
            received = timeout_at(by, self.pieces.recv()) => received,
            () = self.app.ending.cancelled() => return Err(Late::Ending),
        };
        let piece = received.map_err(|_| late)?.ok_or(Late::Stopped)?;
        if is_token(&piece) {
            (self.next_by, self.late) = (Instant::now() + self.between, Late::BetweenTokens);
        }
        Ok(piece)
    }

    /// What all requests share.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }
}
