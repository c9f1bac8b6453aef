//! JSON bodies, bounded in bytes and time before they are read.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ApiError, App};
use crate::config::duration;

/// A body that was read as `T`.
pub struct Body<T>(pub T);

/// A body that was read as `T`, and as it came, for an upstream.
pub struct ForwardedBody<T>(pub T, pub Map<String, Value>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        parse(&read(request, app).await?).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for ForwardedBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let bytes = read(request, app).await?;
        Ok(Self(parse(&bytes)?, parse(&bytes)?))
    }
}

/// Where, never what: the text of a body is not repeated.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::Json(without_content(&error)))
}

async fn read(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let most = app.config.limits.body_bytes;
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = header(CONTENT_TYPE).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return Err(ApiError::ContentType);
    }
    // Said at once, before anything of it is read.
    if header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > most as u64) {
        return Err(ApiError::TooLarge(most));
    }
    let milliseconds = app.config.deadlines.request_ms;
    let bytes = tokio::time::timeout(duration(milliseconds), to_bytes(body, most))
        .await
        .map_err(|_| ApiError::SlowBody(milliseconds))?
        .map_err(|_| ApiError::TooLarge(most))?;
    Ok(bytes)
}

/// A message of serde_json without the value that it found.
fn without_content(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&place).unwrap_or(&text);
    // Found strings stand in double quotes, names of fields in backticks.
    let mut shown = String::new();
    for (at, part) in text.split('"').enumerate() {
        shown.push_str(if at % 2 == 0 { part } else { "…" });
    }
    format!("{shown}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_not_repeated() {
        let error = serde_json::from_str::<u32>("\"我得了什么病\"").unwrap_err();
        let text = without_content(&error);
        assert!(!text.contains("病") && text.contains("string") && text.contains("column"), "{text}");
    }
}
