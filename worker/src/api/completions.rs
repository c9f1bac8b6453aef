//! OpenAI's text completions: a prompt as it is, without a chat template.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use huatuo_generate::Language;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::body::Body;
use super::forward;
use super::guard::Caller;
use super::openai::{Streamed, Usage, Wishes, check_characters, only_false, unsupported};
use super::stream::respond;
use super::texts::{self, Head, Part, Text};
use super::{ApiError, App};
use crate::config::Limits;
use crate::models::Backend;
use crate::scheduler::Finish;

/// A text to be continued.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// The text.
    prompt: PromptText,
    #[serde(flatten)]
    wishes: Wishes,
    /// Not supported.
    #[schema(schema_with = only_false)]
    echo: Option<bool>,
    /// Not supported.
    #[schema(max_length = 0)]
    suffix: Option<String>,
    /// Not supported.
    #[schema(minimum = 0, maximum = 0)]
    logprobs: Option<u64>,
    /// Only 1.
    #[schema(minimum = 1, maximum = 1)]
    best_of: Option<u64>,
}

/// A text, or its tokens.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PromptText {
    /// The text.
    Text(String),
    /// One text, in a list.
    Texts(Vec<String>),
    /// Its tokens.
    Tokens(Vec<u32>),
}

/// A whole answer.
#[derive(Serialize, ToSchema)]
pub struct Completion {
    id: String,
    /// `text_completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize, ToSchema)]
struct CompletionChoice {
    index: usize,
    text: String,
    /// `stop` or `length`; nothing before the end of a stream.
    finish_reason: Option<&'static str>,
    logprobs: Option<()>,
}

impl CompletionRequest {
    fn check(&self) -> Result<(), ApiError> {
        if self.echo == Some(true) {
            return Err(unsupported("echo", "leave it out; the prompt is known to you"));
        }
        if self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
            return Err(unsupported("suffix", "leave it out"));
        }
        if self.logprobs.is_some_and(|logprobs| logprobs > 0) {
            return Err(unsupported("logprobs", "leave it out"));
        }
        if self.best_of.is_some_and(|best_of| best_of != 1) {
            return Err(unsupported("best_of", "leave it out, or use n"));
        }
        Ok(())
    }
}

/// A prompt within the limits.
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl PromptText {
    fn check(self, limits: &Limits) -> Result<Prompt, ApiError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Texts(texts) => match <[String; 1]>::try_from(texts) {
                Ok([text]) => text,
                Err(_) => return Err(ApiError::field("prompt", "is not one text: send a request for each")),
            },
            Self::Tokens(ids) if ids.len() > limits.prompt_characters => {
                return Err(ApiError::field(
                    "prompt",
                    format!("has {} tokens, expected at most {}", ids.len(), limits.prompt_characters),
                ));
            }
            Self::Tokens(ids) => return Ok(Prompt::Tokens(ids)),
        };
        check_characters("prompt", &[&text], limits)?;
        Ok(Prompt::Text(text))
    }
}

impl Prompt {
    fn ids(self, language: &Language) -> Result<Vec<u32>, ApiError> {
        match self {
            Self::Text(text) => {
                let ids = language.tokenizer().encode(&text).map_err(|error| ApiError::from(&error))?;
                Ok(language.tokenizer().bos().into_iter().chain(ids).collect())
            }
            Self::Tokens(ids) => {
                let size = language.tokenizer().len();
                match ids.iter().find(|id| **id as usize >= size) {
                    Some(id) => Err(ApiError::field("prompt", format!("has the token {id}, the model has {size}"))),
                    None => Ok(ids),
                }
            }
        }
    }

    /// As an upstream reads it.
    fn json(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Tokens(ids) => ids.into(),
        }
    }
}

/// Continues a text.
#[utoipa::path(
    post, path = "/v1/completions", request_body = CompletionRequest,
    responses((status = 200, description = "The continuation; with `stream`, events of its parts and then `[DONE]`",
        content((Completion = "application/json"), (Streamed<Completion> = "text/event-stream"))))
)]
pub async fn completions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let asked = request.wishes.check(&app.config.limits)?;
    let prompt = request.prompt.check(&app.config.limits)?;
    let (model, backend) = app.models.get(request.wishes.model.as_deref())?;
    caller.span.model(&model);
    let head = Head::new("cmpl", model);
    let answers = match backend {
        Backend::Local(engine) => {
            let texts = texts::begin(&app, &caller, &engine, prompt.ids(engine.language())?, &asked, "prompt")?;
            if asked.stream {
                return Ok(respond(&app, move |events| async move {
                    texts::stream(&events, texts, asked.include_usage, |part| chunk(&head, part)).await
                }));
            }
            try_join_all(texts.into_iter().map(Text::whole)).await?
        }
        Backend::Upstream(upstreams) => {
            let mut body = request.wishes.forwarded(&asked);
            body.insert("prompt".to_owned(), prompt.json());
            let path = "/v1/completions";
            let stream = forward::send(&app, &caller.span, &upstreams, &head.model, path, body.into()).await?;
            if asked.stream {
                return Ok(forward::pass_on(&app, stream));
            }
            forward::whole(&app, stream, asked.n).await?
        }
    };
    let finishes: Vec<Finish> = answers.iter().map(|(_, finish)| *finish).collect();
    let choice = |(index, (text, finish)): (usize, (String, Finish))| choice(index, text, Some(&finish));
    let choices = answers.into_iter().enumerate().map(choice).collect();
    Ok(Json(completion(&head, choices, Some(texts::usage(&finishes)))).into_response())
}

fn choice(index: usize, text: String, finish: Option<&Finish>) -> CompletionChoice {
    CompletionChoice { index, text, finish_reason: finish.map(texts::reason), logprobs: None }
}

fn completion(head: &Head, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
    let Head { id, created, model } = head.clone();
    Completion { id, object: "text_completion", created, model, choices, usage }
}

/// A part of the stream in its form; its beginning has none.
fn chunk(head: &Head, part: Part) -> Option<Completion> {
    match part {
        Part::Begin(_) => None,
        Part::More(index, text) => Some(completion(head, vec![choice(index, text, None)], None)),
        Part::End(index, finish) => Some(completion(head, vec![choice(index, String::new(), Some(&finish))], None)),
        Part::Usage(usage) => Some(completion(head, Vec::new(), Some(usage))),
    }
}
