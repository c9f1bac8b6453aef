//! Consultations as the AI SDK's UI message stream, so that React hosts get citations as source parts.
//!
//! Source: the AI SDK's "Stream Protocols", data stream protocol, version 1.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Body;
use super::consult::{ConsultEvent, ConsultRequest, RedFlag, Running, Sentence, Turn, TurnRole, begin};
use super::guard::{Caller, random_id};
use super::stream::{Events, Gone, respond};
use super::{ApiError, App};

/// What the AI SDK's chat transport posts.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UiRequest {
    /// The conversation; the last message is the user's.
    #[schema(min_items = 1)]
    messages: Vec<UiMessage>,
    /// A name of `GET /v1/models`; without one, the first of them.
    model: Option<String>,
}

/// A message of the page.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UiMessage {
    /// Who speaks.
    role: UiRole,
    /// Its parts; only texts are read.
    parts: Vec<UiPart>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UiRole {
    /// Who asks.
    User,
    /// Who answers.
    Assistant,
    /// Instructions, which are passed over: consultations have their own.
    System,
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UiPart {
    /// What it is; others than `text` are passed over.
    #[serde(rename = "type")]
    kind: String,
    /// The text.
    text: Option<String>,
}

/// A part of the stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum UiChunk {
    /// The answer begins.
    #[serde(rename_all = "camelCase")]
    Start {
        /// Its identifier.
        message_id: String,
    },
    /// Its text begins.
    TextStart {
        /// The text's identifier.
        id: &'static str,
    },
    /// More of it.
    TextDelta {
        /// The text's identifier.
        id: &'static str,
        /// The next piece.
        delta: String,
    },
    /// Its text ends.
    TextEnd {
        /// The text's identifier.
        id: &'static str,
    },
    /// A reference that can be read on the web.
    #[serde(rename_all = "camelCase")]
    SourceUrl {
        /// Its number in the answer.
        source_id: String,
        /// Where.
        url: String,
        /// The question it answers.
        title: String,
    },
    /// A reference that stands in the index alone.
    #[serde(rename_all = "camelCase")]
    SourceDocument {
        /// Its number in the answer.
        source_id: String,
        /// `text/plain`.
        media_type: &'static str,
        /// The question it answers.
        title: String,
    },
    /// Emergency advice.
    #[serde(rename = "data-red-flags")]
    RedFlags {
        /// Danger signs.
        data: Vec<RedFlag>,
    },
    /// A checked sentence.
    #[serde(rename = "data-sentence")]
    Sentence {
        /// Text, support and numbers of references.
        data: Sentence,
    },
    /// A notice that goes with the answer.
    #[serde(rename = "data-notice")]
    Notice {
        /// Its text.
        data: Notice,
    },
    /// The answer is complete.
    Finish,
    /// It can't be completed.
    #[serde(rename_all = "camelCase")]
    Error {
        /// Why, and what to do.
        error_text: String,
    },
}

/// A notice's text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Notice {
    text: String,
}

/// Answers a question as a UI message stream.
#[utoipa::path(
    post, path = "/v1/consult/ui", operation_id = "consult_ui", request_body = UiRequest,
    responses((status = 200, description = "Events of parts and then `[DONE]`", body = UiChunk, content_type = "text/event-stream"))
)]
pub async fn consult(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<UiRequest>,
) -> Result<Response, ApiError> {
    let mut turns: Vec<Turn> = request.messages.into_iter().filter_map(turn).collect();
    let question = match turns.pop() {
        Some(Turn { role: TurnRole::Patient, text }) => text,
        _ => return Err(ApiError::field("messages", "has no question: the last message is the user's")),
    };
    let running = begin(
        &app,
        &caller,
        ConsultRequest { question, history: turns, model: request.model, ..ConsultRequest::default() },
    )?;
    let mut response = respond(&app, move |events| stream(events, running));
    response.headers_mut().insert("x-vercel-ai-ui-message-stream", HeaderValue::from_static("v1"));
    Ok(response)
}

fn turn(UiMessage { role, parts }: UiMessage) -> Option<Turn> {
    let texts: Vec<String> =
        parts.into_iter().filter(|part| part.kind == "text").filter_map(|part| part.text).collect();
    let role = match role {
        UiRole::User => TurnRole::Patient,
        UiRole::Assistant => TurnRole::Assistant,
        UiRole::System => return None,
    };
    Some(Turn { role, text: texts.join("\n") })
}

async fn stream(events: Arc<Events>, running: Running) -> Result<(), ApiError> {
    // An error is a part of this protocol; who went away needs no end.
    if let Err(error) = write(&events, running).await {
        tracing::warn!(code = error.code(), "a stream ended early");
        let _ = events.json(&UiChunk::Error { error_text: error.to_string() }).await;
    }
    let _ = events.done().await;
    Ok(())
}

async fn write(events: &Events, mut running: Running) -> Result<(), ApiError> {
    const TEXT: &str = "answer";
    let mut has_text = false;
    let mut waiting = vec![UiChunk::Start { message_id: random_id("msg") }];
    loop {
        for chunk in waiting.drain(..) {
            if let Err(Gone) = events.json(&chunk).await {
                return Ok(());
            }
        }
        match running.next().await? {
            ConsultEvent::RedFlags { flags } => waiting.push(UiChunk::RedFlags { data: flags }),
            ConsultEvent::References { references, .. } => waiting.extend(references.into_iter().map(|reference| {
                let source_id = reference.n.to_string();
                let is_link = reference.source.starts_with("https://") || reference.source.starts_with("http://");
                match is_link {
                    true => UiChunk::SourceUrl { source_id, url: reference.source, title: reference.question },
                    false => UiChunk::SourceDocument { source_id, media_type: "text/plain", title: reference.question },
                }
            })),
            ConsultEvent::Text { text } if text.is_empty() => {}
            ConsultEvent::Text { text } => {
                if !has_text {
                    waiting.push(UiChunk::TextStart { id: TEXT });
                    has_text = true;
                }
                waiting.push(UiChunk::TextDelta { id: TEXT, delta: text });
            }
            ConsultEvent::Sentence(sentence) => waiting.push(UiChunk::Sentence { data: sentence }),
            ConsultEvent::Notice { text } => waiting.push(UiChunk::Notice { data: Notice { text } }),
            ConsultEvent::Done(_) => {
                let end = has_text.then_some(UiChunk::TextEnd { id: TEXT });
                for chunk in end.into_iter().chain([UiChunk::Finish]) {
                    if let Err(Gone) = events.json(&chunk).await {
                        return Ok(());
                    }
                }
                return Ok(());
            }
        }
    }
}
