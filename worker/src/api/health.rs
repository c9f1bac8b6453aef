//! Whether the worker lives, and whether it takes work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;

/// A state in one word.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `draining` or `busy`.
    status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", responses((status = 200, body = Health)), security(()))]
pub async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
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
