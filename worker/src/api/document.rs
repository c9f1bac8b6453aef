//! The OpenAPI document: what is served, and nothing else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use super::{ApiError, App};
use super::{chat, completions, consult, embeddings, error, health, metrics, models, retrieve, ui_stream};

#[derive(OpenApi)]
#[openapi(
    info(title = "huatuo-worker", description = "Medical consultations grounded in physicians' consultations"),
    paths(
        health::health, health::live, health::ready, metrics::metrics, document,
        models::list, models::show, models::load, models::unload,
        chat::chat, completions::completions, embeddings::embeddings,
        retrieve::retrieve, consult::consult, ui_stream::consult,
    ),
    components(schemas(error::ErrorBody)),
    modifiers(&Common)
)]
struct Document;

/// What all routes share: the key, and errors.
struct Common;

/// Errors that any route may answer with, and those that only routes with a body do.
const ERRORS: &[(&str, &str)] = &[
    ("401", "No key, or a wrong one"),
    ("403", "Host or Origin is not allowed, or the route is for the operator's keys"),
    ("404", "No such route or model"),
    ("500", "The worker failed"),
    ("405", "No such method"),
];
const ERRORS_OF_WORK: &[(&str, &str)] = &[
    ("400", "The request can't be right"),
    ("408", "The body did not arrive in time"),
    ("413", "The body is too large"),
    ("415", "The body is not JSON"),
    ("429", "Too many requests; Retry-After tells when to try again"),
    ("502", "No upstream answers"),
    ("503", "The model is not loaded, or the worker is ending"),
    ("504", "A deadline has passed"),
];

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("key", scheme);
        document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
        let error = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
            RefOr::T(ResponseBuilder::new().description(description).content("application/json", content).build())
        };
        for (path, item) in &mut document.paths.paths {
            let operations = [(&mut item.get, false), (&mut item.post, true)];
            for (operation, is_work) in operations {
                let Some(operation) = operation else { continue };
                let own = if is_work { ERRORS_OF_WORK } else { &[] };
                let shared = if path.starts_with("/health") { &ERRORS[4..] } else { ERRORS };
                for (status, description) in shared.iter().chain(own) {
                    operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| error(description));
                }
            }
        }
    }
}

/// This document, with the operator's limits.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub async fn document(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let mut document =
        serde_json::to_value(Document::openapi()).map_err(|error| ApiError::Failed(error.to_string()))?;
    let limits = &app.config.limits;
    let bounds = [
        ("n", "maximum", limits.choices),
        ("max_tokens", "maximum", limits.max_tokens),
        ("max_completion_tokens", "maximum", limits.max_tokens),
        ("limit", "maximum", limits.references),
        ("messages", "maxItems", limits.messages),
        ("history", "maxItems", limits.messages),
        ("references", "maxItems", limits.references),
    ];
    for request in ["ChatRequest", "CompletionRequest", "ConsultRequest", "RetrieveRequest", "UiRequest", "Wishes"] {
        if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{request}")) {
            bound(schema, &bounds);
        }
    }
    let texts = [
        ("Stop/oneOf/0", "maxLength", limits.stop_characters),
        ("Stop/oneOf/1", "maxItems", limits.stops),
        ("Stop/oneOf/1/items", "maxLength", limits.stop_characters),
        ("Input/oneOf/1", "minItems", 1),
        ("Input/oneOf/1", "maxItems", limits.inputs),
        ("PromptText/oneOf/0", "maxLength", limits.prompt_characters),
        ("PromptText/oneOf/1", "minItems", 1),
        ("PromptText/oneOf/1", "maxItems", 1),
        ("PromptText/oneOf/1/items", "maxLength", limits.prompt_characters),
        ("PromptText/oneOf/2", "maxItems", limits.prompt_characters),
    ];
    for (place, keyword, most) in texts {
        set(&mut document, &format!("/components/schemas/{place}"), keyword, most);
    }
    Ok(Json(document))
}

/// Writes bounds into the properties of a schema and of those that it is made of.
fn bound(schema: &mut Value, bounds: &[(&str, &str, usize)]) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        bound(part, bounds);
    }
    for (property, keyword, most) in bounds {
        set(schema, &format!("/properties/{property}"), keyword, *most);
    }
}

/// Writes a keyword into what stands at a place, if anything does.
fn set(schema: &mut Value, place: &str, keyword: &str, most: usize) {
    if let Some(schema) = schema.pointer_mut(place).and_then(Value::as_object_mut) {
        schema.insert(keyword.to_owned(), Value::from(most));
    }
}
