//! JSON bodies, bounded in bytes and time before they are read.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{ApiError, App};
use crate::config::duration;

/// A body that was read as `T`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        /// Bytes of a body whose tree may be large while it is read: up to fifty times the text.
        const LARGE: usize = 1 << 16;
        static LARGE_ONES: Semaphore = Semaphore::const_new(2);
        let (bytes, _memory) = read(request, app).await?;
        let _turn = match bytes.len() > LARGE {
            true => Some(LARGE_ONES.acquire().await),
            false => None,
        };
        parse(&bytes).map(Self)
    }
}

/// Where, never what: the text of a body is not repeated.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::Json(without_content(&error)))
}

/// Memory of all bodies that are being read: connections times requests times bytes of a body would be too much.
const MEMORY: u32 = 64 << 20;
static FREE: Semaphore = Semaphore::const_new(MEMORY as usize);

async fn read(request: Request, app: &App) -> Result<(Bytes, Option<SemaphorePermit<'static>>), ApiError> {
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
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(most as u64);
    if length > most as u64 {
        return Err(ApiError::TooLarge(most));
    }
    let milliseconds = app.config.deadlines.request_ms;
    let read = async {
        let memory = FREE.acquire_many(u32::try_from(length).unwrap_or(MEMORY).min(MEMORY)).await.ok();
        Ok((to_bytes(body, most).await.map_err(|_| ApiError::TooLarge(most))?, memory))
    };
    tokio::time::timeout(duration(milliseconds), read).await.map_err(|_| ApiError::SlowBody(milliseconds))?
}

/// A message of serde_json without the value that it found.
fn without_content(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&place).unwrap_or(&text);
    // Found strings stand in double quotes, escaped; found names, before those that were expected, in backticks.
    let text = match text.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected ")) {
        Some((_, expected)) => format!("unknown variant `…`, expected {expected}"),
        None => text.to_owned(),
    };
    let (mut shown, mut is_found, mut is_escaped) = (String::new(), false, false);
    for character in text.chars() {
        match character {
            '"' if !is_escaped => {
                is_found = !is_found;
                shown.push_str(if is_found { "\"…" } else { "\"" });
            }
            character if !is_found => shown.push(character),
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    format!("{shown}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_not_repeated() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Role {
            User,
        }
        for found in [r#""我得了什么病""#, r#""病\"病""#, r#""\\""#, r#""`, expected 病""#] {
            for text in [
                without_content(&serde_json::from_str::<u32>(found).unwrap_err()),
                without_content(&serde_json::from_str::<Role>(found).unwrap_err()),
            ] {
                assert!(!text.contains("病") && text.contains("expected") && text.contains("column"), "{text}");
            }
        }
        assert!(serde_json::from_str::<Role>("\"user\"").is_ok_and(|role| matches!(role, Role::User)));
    }
}
