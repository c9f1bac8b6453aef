//! OpenAI's embeddings, by the retriever's encoder.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Body;
use super::listening::{Late, by};
use super::openai::{check_characters, unsupported};
use super::{ApiError, App};
use crate::config::duration;

/// Texts to be embedded.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EmbeddingRequest {
    /// The texts; each is cut at the encoder's longest sequence.
    input: Input,
    /// Any name: there is one encoder.
    model: Option<String>,
    /// How vectors are written.
    #[serde(default)]
    encoding_format: Option<EncodingFormat>,
    /// Only the encoder's own number.
    #[schema(minimum = 1)]
    dimensions: Option<u64>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// Little-endian single precision in base64.
    Base64,
}

/// One text or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Input {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Vectors of texts.
#[derive(Serialize, ToSchema)]
pub struct Embeddings {
    /// `list`.
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

#[derive(Serialize, ToSchema)]
struct Embedding {
    /// `embedding`.
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

/// Not counted: 0.
#[derive(Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Embeds texts.
#[utoipa::path(post, path = "/v1/embeddings", request_body = EmbeddingRequest, responses((status = 200, body = Embeddings)))]
pub async fn embeddings(
    State(app): State<Arc<App>>,
    Body(request): Body<EmbeddingRequest>,
) -> Result<Json<Embeddings>, ApiError> {
    let limits = &app.config.limits;
    let texts = match request.input {
        Input::One(text) => vec![text],
        Input::Several(texts) => texts,
    };
    if texts.is_empty() || texts.len() > limits.inputs {
        return Err(ApiError::field("input", format!("has {} texts, expected 1 to {}", texts.len(), limits.inputs)));
    }
    if texts.iter().any(|text| text.trim().is_empty()) {
        return Err(ApiError::field("input", "has a text without a character"));
    }
    check_characters("input", &texts.iter().map(String::as_str).collect::<Vec<_>>(), limits)?;
    let own = app.consultations.index.dimensions;
    if request.dimensions.is_some_and(|wanted| wanted != own as u64) {
        return Err(unsupported("dimensions", "leave it out; the encoder's vectors are not shortened"));
    }
    let deadline = duration(app.config.deadlines.total_ms);
    let vectors = by(&app, deadline, Late::Total, app.consultations.embed(texts)).await??;
    let vector = |numbers: Vec<f32>| match request.encoding_format {
        Some(EncodingFormat::Base64) => Vector::Base64(base64(&numbers)),
        Some(EncodingFormat::Float) | None => Vector::Numbers(numbers),
    };
    let embedding = |(index, numbers)| Embedding { object: "embedding", index, embedding: vector(numbers) };
    let data = vectors.into_iter().enumerate().map(embedding).collect();
    let model = request.model.unwrap_or_else(|| "encoder".to_owned());
    Ok(Json(Embeddings { object: "list", data, model, usage: EmbeddingUsage { prompt_tokens: 0, total_tokens: 0 } }))
}

fn base64(numbers: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
