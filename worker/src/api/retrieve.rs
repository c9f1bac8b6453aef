//! References alone, for clients that generate for themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use huatuo_core::Retrieval;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Body;
use super::consult::{Reference, Turn, conversation, question};
use super::listening::{Late, by};
use super::{ApiError, App};
use crate::config::duration;

/// A question, perhaps in a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RetrieveRequest {
    /// What is asked: at most 1000 characters, once control characters and runs of white space are one space.
    #[schema(min_length = 1)]
    question: String,
    /// What was said before, oldest first.
    #[serde(default)]
    history: Vec<Turn>,
    /// References wanted; 4 where it is not given.
    #[schema(minimum = 1)]
    limit: Option<u64>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub struct RetrieveResponse {
    /// The query that was searched: the question, completed from the conversation where it was elliptical.
    query: String,
    /// Best first.
    references: Vec<Reference>,
    /// Whether the best one is too far from the question to answer from.
    weak: bool,
}

/// Finds references.
#[utoipa::path(post, path = "/v1/retrieve", request_body = RetrieveRequest, responses((status = 200, body = RetrieveResponse)))]
pub async fn retrieve(
    State(app): State<Arc<App>>,
    Body(request): Body<RetrieveRequest>,
) -> Result<Json<RetrieveResponse>, ApiError> {
    let limits = &app.config.limits;
    let question = question(&request.question)?;
    let conversation = conversation(request.history, limits)?;
    let limit = super::consult::count("limit", request.limit, limits.references)?;
    let deadline = duration(app.config.deadlines.first_token_ms);
    let found = app.consultations.retrieve(question, conversation, limit);
    let retrieval = by(&app, deadline, Late::References, found).await??;
    let Retrieval { query, references, weak, .. } = retrieval;
    Ok(Json(RetrieveResponse { query, references: super::consult::numbered(&references), weak }))
}
