//! The HTTP interface.

mod body;
mod chat;
mod completions;
mod consult;
mod document;
mod embeddings;
mod error;
mod forward;
mod guard;
mod health;
mod listening;
mod metrics;
mod models;
mod openai;
mod retrieve;
mod stream;
mod texts;
mod ui_stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consultations::Consultations;
use crate::models::Models;
use crate::traces::Traces;

pub use error::ApiError;
pub use guard::{Keys, random_key};
pub use health::starting;
pub use metrics::Metrics;

/// What all requests share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// Models by name.
    pub models: Models,
    /// Retriever and core.
    pub consultations: Consultations,
    /// Keys that clients may use.
    pub keys: Keys,
    /// Counts of requests.
    pub metrics: Metrics,
    /// Spans of requests.
    pub traces: Traces,
    /// Whether no new work is taken.
    pub draining: AtomicBool,
    /// Requests and answers under way subscribe to it; closed when there are none.
    pub under_way: Sender<()>,
    /// Cancelled when answers under way are to end.
    pub ending: CancellationToken,
}

impl App {
    /// Takes no new work from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether new work is taken.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && self.models.are_ready() && !self.consultations.are_over()
    }
}

/// All routes behind the guard.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(document::document))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::show))
        .route("/v1/models/{name}/load", post(models::load))
        .route("/v1/models/{name}/unload", post(models::unload))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/retrieve", post(retrieve::retrieve))
        .route("/v1/consult", post(consult::consult))
        .route("/v1/consult/ui", post(ui_stream::consult))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}
