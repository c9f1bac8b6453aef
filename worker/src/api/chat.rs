//! OpenAI's chat completions: what the model says, without references. Consultations have a route of their own.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use huatuo_core::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::body::Body;
use super::forward;
use super::guard::Caller;
use super::openai::{Shape, Streamed, Usage, Wishes, check_characters, only_false, unsupported};
use super::stream::respond;
use super::texts::{self, Head, Part, Text};
use super::{ApiError, App};
use crate::config::Limits;
use crate::models::Backend;
use crate::scheduler::Finish;

/// A conversation to be continued.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatRequest {
    /// The conversation; the last message is the user's.
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    #[serde(flatten)]
    wishes: Wishes,
    /// Not supported: answers never call tools.
    #[schema(value_type = Option<Vec<Object>>, max_items = 0)]
    tools: Option<Shape>,
    /// Only `none` and `auto`, which is the same without tools.
    #[schema(value_type = Option<String>, pattern = "^(none|auto)$")]
    tool_choice: Option<Shape>,
    /// Not supported.
    #[schema(value_type = Option<Vec<Object>>, max_items = 0)]
    functions: Option<Shape>,
    /// Only `{"type": "text"}`.
    response_format: Option<ResponseFormat>,
    /// Not supported.
    #[schema(schema_with = only_false)]
    logprobs: Option<bool>,
    /// Not supported.
    #[schema(minimum = 0, maximum = 0)]
    top_logprobs: Option<u64>,
}

/// What an answer looks like.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// `text`.
    #[serde(rename = "type")]
    #[schema(pattern = "^text$")]
    kind: String,
}

/// One message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// Who speaks.
    role: ChatRole,
    /// What is said; an answer may be empty.
    content: Option<Content>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Instructions; they come first.
    System,
    /// The same under its newer name.
    Developer,
    /// Who asks.
    User,
    /// Who answers.
    Assistant,
}

/// A text, whole or in parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Content {
    /// The text.
    Text(String),
    /// Its parts, joined by line ends.
    Parts(Vec<ContentPart>),
}

/// A part of a message. Parts that name an address are refused: nothing is ever fetched on a client's word.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ContentPart {
    /// `text`.
    #[serde(rename = "type")]
    #[schema(pattern = "^text$")]
    kind: String,
    /// The text.
    text: Option<String>,
}

/// A whole answer.
#[derive(Serialize, ToSchema)]
pub struct ChatCompletion {
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
struct ChatChoice {
    index: usize,
    message: ChatAnswer,
    /// `stop` or `length`.
    finish_reason: &'static str,
    logprobs: Option<()>,
}

#[derive(Serialize, ToSchema)]
struct ChatAnswer {
    /// `assistant`.
    role: &'static str,
    content: String,
    refusal: Option<()>,
}

/// A part of a streamed answer.
#[derive(Serialize, ToSchema)]
pub struct ChatChunk {
    id: String,
    /// `chat.completion.chunk`.
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize, ToSchema)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    finish_reason: Option<&'static str>,
    logprobs: Option<()>,
}

#[derive(Default, Serialize, ToSchema)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl ChatRequest {
    /// Refuses what is not done.
    fn check(&self) -> Result<(), ApiError> {
        let is_given = |shape: &Option<Shape>| shape.as_ref().is_some_and(|shape| *shape != Shape::EmptyList);
        if is_given(&self.tools) {
            return Err(unsupported("tools", "leave them out; this model does not call tools"));
        }
        if is_given(&self.functions) {
            return Err(unsupported("functions", "leave them out; this model does not call functions"));
        }
        let is_usual = |choice: &Shape| match choice {
            Shape::Text(choice) => choice == "none" || choice == "auto",
            Shape::EmptyList | Shape::EmptyObject | Shape::Something => false,
        };
        if !self.tool_choice.as_ref().is_none_or(is_usual) {
            return Err(unsupported("tool_choice", "leave it out; this model does not call tools"));
        }
        if self.response_format.as_ref().is_some_and(|format| format.kind != "text") {
            return Err(unsupported("response_format", "only text is written; ask for the form in words"));
        }
        if self.logprobs == Some(true) || self.top_logprobs.is_some_and(|count| count > 0) {
            return Err(unsupported("logprobs", "leave it out"));
        }
        Ok(())
    }
}

/// Messages as templates take them: system text first, then user and assistant in turn, the user last.
fn messages(given: Vec<ChatMessage>, limits: &Limits) -> Result<Vec<Message>, ApiError> {
    let field = "messages";
    if given.is_empty() || given.len() > limits.messages {
        let reason = format!("has {} messages, expected 1 to {}", given.len(), limits.messages);
        return Err(ApiError::field(field, reason));
    }
    let (mut system, mut turns) = (Vec::new(), Vec::<Message>::new());
    for ChatMessage { role, content } in given {
        let content = match content {
            Some(content) => content.text()?,
            None if role == ChatRole::Assistant => String::new(),
            None => return Err(ApiError::field(field, "has a message without content")),
        };
        let role = match role {
            ChatRole::System | ChatRole::Developer => {
                system.push(content);
                continue;
            }
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
        };
        match turns.last_mut().filter(|last| last.role == role) {
            Some(last) => last.content.push_str(&format!("\n{content}")),
            None => turns.push(Message { role, content }),
        }
    }
    if turns.first().is_none_or(|first| first.role != "user") || turns.last().is_none_or(|last| last.role != "user") {
        return Err(ApiError::field(field, "begins or ends with an answer: the first and last turn are the user's"));
    }
    if !system.is_empty() {
        turns.insert(0, Message { role: "system", content: system.join("\n") });
    }
    let texts: Vec<&str> = turns.iter().map(|message| message.content.as_str()).collect();
    check_characters(field, &texts, limits)?;
    Ok(turns)
}

impl Content {
    fn text(self) -> Result<String, ApiError> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        let text = |part: ContentPart| match (part.kind.as_str(), part.text) {
            ("text", Some(text)) => Ok(text),
            ("text", None) => Err(ApiError::field("messages", "has a part without its text")),
            _ => Err(unsupported("messages", "only parts of type text are read, and no address is fetched")),
        };
        Ok(parts.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

/// Continues a conversation.
#[utoipa::path(
    post, path = "/v1/chat/completions", request_body = ChatRequest,
    responses((status = 200, description = "The answer; with `stream`, events of chunks and then `[DONE]`",
        content((ChatCompletion = "application/json"), (Streamed<ChatChunk> = "text/event-stream"))))
)]
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let asked = request.wishes.check(&app.config.limits)?;
    let messages = messages(request.messages, &app.config.limits)?;
    let (model, backend) = app.models.get(request.wishes.model.as_deref())?;
    caller.span.model(&model);
    let head = Head::new("chatcmpl", model);
    let answers = match backend {
        Backend::Local(engine) => {
            let ids = engine.language().encode_prompt(&messages).map_err(|error| ApiError::from(&error))?;
            let texts = texts::begin(&app, &caller, &engine, ids, &asked, "messages")?;
            if asked.stream {
                return Ok(respond(&app, move |events| async move {
                    texts::stream(&events, texts, asked.include_usage, |part| Some(chunk(&head, part))).await
                }));
            }
            try_join_all(texts.into_iter().map(Text::whole)).await?
        }
        Backend::Upstream(upstreams) => {
            // As they were read here: an upstream must not find something else in them.
            let read = |message: &Message| json!({ "role": message.role, "content": message.content });
            let mut body = request.wishes.forwarded(&asked);
            body.insert("messages".to_owned(), messages.iter().map(read).collect());
            let path = "/v1/chat/completions";
            let stream = forward::send(&app, &caller.span, &upstreams, &head.model, path, body.into()).await?;
            if asked.stream {
                return Ok(forward::pass_on(&app, stream));
            }
            forward::whole(&app, stream, asked.n).await?
        }
    };
    let finishes: Vec<Finish> = answers.iter().map(|(_, finish)| *finish).collect();
    let choice = |(index, (content, finish)): (usize, (String, Finish))| ChatChoice {
        index,
        message: ChatAnswer { role: "assistant", content, refusal: None },
        finish_reason: texts::reason(&finish),
        logprobs: None,
    };
    let Head { id, created, model } = head;
    let choices = answers.into_iter().enumerate().map(choice).collect();
    let usage = texts::usage(&finishes);
    Ok(Json(ChatCompletion { id, object: "chat.completion", created, model, choices, usage }).into_response())
}

/// A part of the stream in its form.
fn chunk(head: &Head, part: Part) -> ChatChunk {
    let choice = |index, delta, finish_reason| vec![ChunkChoice { index, delta, finish_reason, logprobs: None }];
    let (choices, usage) = match part {
        Part::Begin(index) => {
            (choice(index, Delta { role: Some("assistant"), content: Some(String::new()) }, None), None)
        }
        Part::More(index, text) => (choice(index, Delta { role: None, content: Some(text) }, None), None),
        Part::End(index, finish) => (choice(index, Delta::default(), Some(texts::reason(&finish))), None),
        Part::Usage(usage) => (Vec::new(), Some(usage)),
    };
    let Head { id, created, model } = head.clone();
    ChatChunk { id, object: "chat.completion.chunk", created, model, choices, usage }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Message>, ApiError> {
        let request: ChatRequest = serde_json::from_str(json).map_err(|error| ApiError::Json(error.to_string()))?;
        request.check()?;
        messages(request.messages, &Limits::default())
    }

    #[test]
    fn system_texts_stand_first_and_turns_alternate() {
        let read = read(
            r#"{"messages":[{"role":"user","content":"a"},{"role":"developer","content":"s"},{"role":"user","content":[{"type":"text","text":"b"}]}]}"#,
        );
        let read: Vec<_> = read.unwrap().into_iter().map(|message| (message.role, message.content)).collect();
        assert_eq!(read, [("system", "s".to_owned()), ("user", "a\nb".to_owned())]);
    }

    #[test]
    fn no_address_is_ever_fetched() {
        for part in [
            r#"{"type":"image_url","image_url":{"url":"http://169.254.169.254/latest/meta-data"}}"#,
            r#"{"type":"image_url","image_url":{"url":"http://127.0.0.1#@example.com/"}}"#,
            r#"{"type":"input_audio","input_audio":{"data":"","format":"wav"}}"#,
            r#"{"type":"file","file":{"file_id":"file:///etc/passwd"}}"#,
        ] {
            let json = format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
            assert!(matches!(read(&json), Err(ApiError::Unsupported { field: "messages", .. })), "{part}");
        }
    }

    #[test]
    fn tools_and_their_schemas_are_refused_unread() {
        for extra in [
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string","pattern":"(("}}}}}]"#,
            r#""tools":{"type":5}"#,
            r#""functions":[{"name":"f"}]"#,
            r#""tools":{}"#,
            r#""functions":{}"#,
            r#""tool_choice":{}"#,
            r#""tool_choice":"required""#,
            r##""response_format":{"type":"json_schema","json_schema":{"name":"bomb","schema":{"$ref":"#"}}}"##,
            r#""logprobs":true"#,
        ] {
            let json = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{extra}}}"#);
            assert!(matches!(read(&json), Err(ApiError::Unsupported { .. })), "{extra}");
        }
        assert!(read(r#"{"messages":[{"role":"user","content":"x"}],"tools":[],"tool_choice":"auto"}"#).is_ok());
    }

    #[test]
    fn a_template_that_a_request_brings_is_not_read() {
        let json =
            r#"{"messages":[{"role":"user","content":"x"}],"chat_template":"{% for i in range(10**9) %}{% endfor %}"}"#;
        assert_eq!(read(json).unwrap().len(), 1);
    }
}
