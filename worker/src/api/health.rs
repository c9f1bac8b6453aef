//! Whether the worker lives, and whether it takes work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;

/// A state in one word.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `starting`, `draining`, `busy` or `failed`.
    status: &'static str,
}

/// The process answers, and nothing in it has failed that only a new start, or an operator, sets right.
#[utoipa::path(
    get, path = "/health/live", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health, description = "A part of the worker has failed"))
)]
pub async fn live(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    match app.models.has_dead() || app.consultations.are_over() {
        true => (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "failed" })),
        false => (StatusCode::OK, Json(Health { status: "ok" })),
    }
}

/// All that a worker that still loads says: it lives, and takes no work yet.
pub async fn starting(uri: Uri) -> (StatusCode, Json<Health>) {
    let status = if uri.path() == "/health/live" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: "starting" }))
}

/// The same as `/health/ready`, where routers made for vLLM look for it.
#[utoipa::path(
    get, path = "/health", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health, description = "No work is taken at present"))
)]
pub async fn health(state: State<Arc<App>>) -> (StatusCode, Json<Health>) {
    ready(state).await
}

/// The first model is loaded and its queue is not full.
#[utoipa::path(
    get, path = "/health/ready", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health, description = "No work is taken at present"))
)]
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    if app.draining.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "draining" }));
    }
    match app.is_ready() {
        true => (StatusCode::OK, Json(Health { status: "ok" })),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "busy" })),
    }
}
