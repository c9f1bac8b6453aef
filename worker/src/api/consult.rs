//! Consultations: references, a grounded answer with its citations, and the safety rules' verdict.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use huatuo_core::safety::RedFlag as CoreRedFlag;
use huatuo_core::{Consultation, Conversation, Question, Role};
use huatuo_generate::Sampling;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use utoipa::ToSchema;

use super::body::Body;
use super::guard::Caller;
use super::listening::Listening;
use super::openai::{PromptTokens, Stop, Streamed, Usage, check_characters, seed, stops, within};
use super::stream::{Events, Gone, respond};
use super::{ApiError, App};
use crate::config::Limits;
use crate::consultations::{Consult, OwnedEvent, Told, limits};
use crate::generator::{AnswerGenerator, Source};
use crate::models::Backend;
use crate::traces::{GENERATE, RETRIEVE, Span};
use crate::upstream::Deadlines;

/// References given where a request does not say how many.
const REFERENCES: usize = 4;

/// A question, perhaps in a conversation.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct ConsultRequest {
    /// What is asked: at most 1000 characters, once control characters and runs of white space are one space.
    #[schema(min_length = 1)]
    pub question: String,
    /// What was said before, oldest first.
    #[serde(default)]
    pub history: Vec<Turn>,
    /// A name of `GET /v1/models`; without one, the first of them.
    pub model: Option<String>,
    /// References that the client has retrieved for itself, best first; without them they are retrieved here.
    pub references: Option<Vec<GivenReference>>,
    /// References to be retrieved, 4 where it is not given, or of the client's own to be used, all where it is not given.
    #[schema(minimum = 1)]
    pub limit: Option<u64>,
    /// Whether only references are wanted, and no answer.
    pub references_only: Option<bool>,
    /// Whether the answer comes as server-sent events.
    pub stream: Option<bool>,
    /// Most tokens of the answer.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// 0, which is the default, is greedy.
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub temperature: Option<f64>,
    /// Probability mass considered.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub top_p: Option<f64>,
    /// Seed of the random numbers.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Option<Stop>,
}

/// One utterance.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Turn {
    /// Who spoke.
    pub role: TurnRole,
    /// What was said.
    pub text: String,
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnRole {
    /// Who asks.
    Patient,
    /// Who answers.
    Assistant,
}

/// A reference that a client brings.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GivenReference {
    /// The record's identifier.
    id: String,
    /// The question the record answers.
    question: String,
    /// The physician's answer.
    answer: String,
    /// Where the record comes from.
    #[serde(default)]
    source: String,
    /// Hospital department.
    #[serde(default)]
    department: String,
    /// Diseases the record is about.
    #[serde(default)]
    related_diseases: Vec<String>,
    /// How close it is to the question.
    #[schema(minimum = 0.0, maximum = 1.0)]
    score: f32,
}

/// A reference of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reference {
    /// Its number in the answer.
    pub n: usize,
    /// The record's identifier.
    pub id: String,
    /// The question the record answers.
    pub question: String,
    /// The physician's answer.
    pub answer: String,
    /// Where the record comes from.
    pub source: String,
    /// Hospital department.
    pub department: String,
    /// Diseases the record is about.
    pub related_diseases: Vec<String>,
    /// How close it is to the question, 0 to 1.
    pub score: f32,
}

/// A danger sign in a question.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RedFlag {
    /// Stable identifier.
    pub id: &'static str,
    /// What to do at once, in Chinese.
    pub advice: &'static str,
    /// What to do at once, in English.
    pub advice_en: &'static str,
}

/// A checked sentence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sentence {
    /// As shown.
    pub text: String,
    /// Whether a cited reference says it.
    pub supported: bool,
    /// Numbers of references.
    pub citations: Vec<usize>,
}

/// What the safety rules found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Safety {
    /// Danger signs in the question.
    pub red_flags: Vec<RedFlag>,
    /// Notices that go with the answer.
    pub notices: Vec<String>,
}

/// A finished consultation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConsultResponse {
    /// The model that answered.
    pub model: String,
    /// The answer as shown; empty where only references were asked for.
    pub answer: String,
    /// Its sentences with their support.
    pub sentences: Vec<Sentence>,
    /// References in the order of their numbers.
    pub references: Vec<Reference>,
    /// What the safety rules found.
    pub safety: Safety,
    /// Whether no answer was given because no reference is near enough.
    pub abstained: bool,
    /// Tokens.
    pub usage: Usage,
    /// Milliseconds by stage.
    pub timings_ms: Timings,
}

/// Milliseconds by stage.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Timings {
    embed: f64,
    retrieve: f64,
    excerpt: f64,
    prefill: f64,
    first_token: f64,
    decode: f64,
}

/// What a stream tells, in order; red flags, if any, come first, `done` or `error` last.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConsultEvent {
    /// Emergency advice.
    RedFlags {
        /// Danger signs.
        flags: Vec<RedFlag>,
    },
    /// The references, before the answer.
    References {
        /// Best first.
        references: Vec<Reference>,
        /// The query that was searched.
        query: String,
        /// Whether the best one is too far from the question to answer from.
        weak: bool,
    },
    /// The next piece of the answer.
    Text {
        /// The piece.
        text: String,
    },
    /// A sentence is complete and checked.
    Sentence(Sentence),
    /// A notice that goes with the answer.
    Notice {
        /// The notice.
        text: String,
    },
    /// The whole result.
    Done(Box<ConsultResponse>),
}

impl ConsultEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::RedFlags { .. } => "red_flags",
            Self::References { .. } => "references",
            Self::Text { .. } => "text",
            Self::Sentence(_) => "sentence",
            Self::Notice { .. } => "notice",
            Self::Done(_) => "done",
        }
    }
}

/// A consultation under way.
pub struct Running {
    listening: Listening<Told>,
    model: String,
    /// Whether the core's first text came, which is empty and comes before any token: it asks whether to go on.
    is_begun: bool,
    request: Span,
    /// What is waited for at present.
    part: Span,
}

impl Running {
    /// The next event; `Done` is the last.
    pub async fn next(&mut self) -> Result<ConsultEvent, ApiError> {
        self.event().await.inspect_err(|error| self.part.fail(error.code()))
    }

    async fn event(&mut self) -> Result<ConsultEvent, ApiError> {
        let Self { listening, is_begun, .. } = self;
        let is_token =
            |told: &Told| matches!(told, Told::Event(OwnedEvent::Text(_))) && std::mem::replace(is_begun, true);
        match listening.next(is_token).await? {
            Told::Event(event) => {
                if matches!(event, OwnedEvent::References(_)) {
                    self.part = self.request.part(GENERATE);
                }
                Ok(event.into())
            }
            Told::Failed(error) => Err(error.into()),
            Told::Done(result) => {
                let metrics = &self.listening.app().metrics;
                if !result.red_flags.is_empty() {
                    metrics.count_red_flags();
                }
                if result.abstained {
                    metrics.count_abstention();
                }
                if result.timings.first_token > 0.0 {
                    self.part.note("huatuo.first_token_ms", result.timings.first_token);
                    metrics.first_token(result.timings.first_token / 1000.0);
                }
                let generation = &result.generation;
                self.part.tokens(generation.prompt_tokens, generation.cached_tokens, generation.tokens);
                Ok(ConsultEvent::Done(Box::new(response(&self.model, *result))))
            }
        }
    }
}

/// Begins a consultation; everything is checked, and a place in the model's queue taken, before anything is done.
pub fn begin(app: &Arc<App>, caller: &Caller, request: ConsultRequest) -> Result<Running, ApiError> {
    let bounds = &app.config.limits;
    let question = question(&request.question)?;
    let conversation = conversation(request.history, bounds)?;
    let mut core_limits = limits();
    let references = request.references.map(|references| given(references, bounds)).transpose()?;
    // Of references that a client brings, all are meant where it does not say how many.
    let brought = references.as_ref().map(|references| references.len().max(1) as u64);
    core_limits.references = count("limit", request.limit.or(brought), bounds.references)?;
    within("temperature", request.temperature, 0.0, 2.0)?;
    within("top_p", request.top_p, 0.0, 1.0)?;
    let usual = Sampling::default();
    let max_tokens = match request.max_tokens {
        None => usual.max_tokens.min(bounds.max_tokens),
        Some(tokens) if (1..=bounds.max_tokens as u64).contains(&tokens) => tokens as usize,
        Some(tokens) => {
            return Err(ApiError::field("max_tokens", format!("is {tokens}, expected 1 to {}", bounds.max_tokens)));
        }
    };
    let sampling = Sampling {
        temperature: request.temperature.unwrap_or(usual.temperature),
        top_p: request.top_p.unwrap_or(usual.top_p),
        seed: seed(Some(request.seed.unwrap_or_default()))?,
        max_tokens,
        stop_strings: stops(request.stop.as_ref(), bounds)?,
        ..usual
    };
    if app.config.log_questions {
        tracing::info!(request_id = caller.request_id, question = question.text(), "question");
    }
    let deadlines = Deadlines::begin(&app.config.deadlines);
    let (model, generator, place) = match request.references_only {
        // Nothing is generated: the model may be one that is not loaded.
        Some(true) => (app.models.name(request.model.as_deref())?, None, Some(app.consultations.place()?)),
        _ => {
            let (model, backend) = app.models.get(request.model.as_deref())?;
            let source = match backend {
                Backend::Local(engine) => {
                    let slot = Some(engine.reserve()?);
                    Source::Engine { engine, scope: caller.scope, slot }
                }
                Backend::Upstream(upstreams) => {
                    let (place, span) = (Some(upstreams.reserve()?), caller.span.clone());
                    let (model, runtime) = (model.clone(), Handle::current());
                    Source::Upstream { upstreams, model, runtime, place, deadlines, span }
                }
            };
            (model, Some(AnswerGenerator::new(source, sampling)), None)
        }
    };
    caller.span.model(&model);
    let (told, receiver) = unbounded_channel();
    let consult = Consult { question, conversation, references, limits: core_limits, generator, place, told };
    app.consultations.consult(consult);
    let (request, part) = (caller.span.clone(), caller.span.part(RETRIEVE));
    Ok(Running { listening: Listening::new(app, receiver), model, is_begun: false, request, part })
}

/// Answers a question with reference to physicians' consultations.
#[utoipa::path(
    post, path = "/v1/consult", request_body = ConsultRequest,
    responses((status = 200, description = "The answer; with `stream`, events named after their type",
        content((ConsultResponse = "application/json"), (Streamed<ConsultEvent> = "text/event-stream"))))
)]
pub async fn consult(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<ConsultRequest>,
) -> Result<Response, ApiError> {
    let is_streamed = request.stream == Some(true);
    let mut running = begin(&app, &caller, request)?;
    if is_streamed {
        return Ok(respond(&app, move |events| stream(events, running)));
    }
    loop {
        if let ConsultEvent::Done(response) = running.next().await? {
            return Ok(Json(*response).into_response());
        }
    }
}

async fn stream(events: Arc<Events>, mut running: Running) -> Result<(), ApiError> {
    loop {
        let event = running.next().await?;
        if matches!(&event, ConsultEvent::Text { text } if text.is_empty()) {
            continue; // a token that completes no character, or a sentence that is still held back
        }
        match events.named(event.name(), &event).await {
            Ok(()) if !matches!(event, ConsultEvent::Done(_)) => {}
            Ok(()) | Err(Gone) => return Ok(()),
        }
    }
}

/// A question within the core's bounds.
pub fn question(text: &str) -> Result<Question, ApiError> {
    Question::new(text).map_err(|error| ApiError::field("question", format!("can't be asked: {error}")))
}

/// A conversation within the limits.
pub fn conversation(history: Vec<Turn>, limits: &Limits) -> Result<Conversation, ApiError> {
    if history.len() > limits.messages {
        let reason = format!("has {} turns, expected at most {}", history.len(), limits.messages);
        return Err(ApiError::field("history", reason));
    }
    check_characters("history", &history.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>(), limits)?;
    let turn = |Turn { role, text }| huatuo_core::Turn {
        role: match role {
            TurnRole::Patient => Role::Patient,
            TurnRole::Assistant => Role::Assistant,
        },
        text,
    };
    Ok(Conversation { turns: history.into_iter().map(turn).collect() })
}

/// How many references are wanted.
pub fn count(field: &'static str, wanted: Option<u64>, most: usize) -> Result<usize, ApiError> {
    match wanted {
        None => Ok(REFERENCES.min(most)),
        Some(count) if (1..=most as u64).contains(&count) => Ok(count as usize),
        Some(count) => Err(ApiError::field(field, format!("is {count}, expected 1 to {most}"))),
    }
}

fn given(references: Vec<GivenReference>, limits: &Limits) -> Result<Vec<huatuo_core::Reference>, ApiError> {
    let field = "references";
    if references.len() > limits.references {
        let reason = format!("has {} references, expected at most {}", references.len(), limits.references);
        return Err(ApiError::field(field, reason));
    }
    if references.iter().any(|reference| !(0.0..=1.0).contains(&reference.score)) {
        return Err(ApiError::field(field, "has a score that is not 0 to 1"));
    }
    let texts = references.iter().flat_map(|reference| [reference.question.as_str(), reference.answer.as_str()]);
    check_characters(field, &texts.collect::<Vec<_>>(), limits)?;
    let reference = |given: GivenReference| {
        let GivenReference { id, question, answer, source, department, related_diseases, score } = given;
        huatuo_core::Reference { id, question, answer, source, department, related_diseases, score }
    };
    Ok(references.into_iter().map(reference).collect())
}

/// References with their numbers.
pub fn numbered(references: &[huatuo_core::Reference]) -> Vec<Reference> {
    let reference = |(at, r): (usize, &huatuo_core::Reference)| Reference {
        n: at + 1,
        id: r.id.clone(),
        question: r.question.clone(),
        answer: r.answer.clone(),
        source: r.source.clone(),
        department: r.department.clone(),
        related_diseases: r.related_diseases.clone(),
        score: r.score,
    };
    references.iter().enumerate().map(reference).collect()
}

fn red_flags(flags: &[CoreRedFlag]) -> Vec<RedFlag> {
    flags.iter().map(|flag| RedFlag { id: flag.id, advice: flag.advice, advice_en: flag.advice_en }).collect()
}

impl From<OwnedEvent> for ConsultEvent {
    fn from(event: OwnedEvent) -> Self {
        match event {
            OwnedEvent::RedFlags(flags) => Self::RedFlags { flags: red_flags(&flags) },
            OwnedEvent::References(retrieval) => Self::References {
                references: numbered(&retrieval.references),
                query: retrieval.query,
                weak: retrieval.weak,
            },
            OwnedEvent::Text(text) => Self::Text { text },
            OwnedEvent::Sentence(sentence) => Self::Sentence(sentence.into()),
            OwnedEvent::Notice(text) => Self::Notice { text },
        }
    }
}

impl From<huatuo_core::Sentence> for Sentence {
    fn from(sentence: huatuo_core::Sentence) -> Self {
        let huatuo_core::Sentence { text, supported, citations } = sentence;
        Self { text, supported, citations }
    }
}

fn response(model: &str, result: Consultation) -> ConsultResponse {
    let (generation, timings) = (result.generation, result.timings);
    ConsultResponse {
        model: model.to_owned(),
        answer: result.answer,
        sentences: result.sentences.into_iter().map(Sentence::from).collect(),
        references: numbered(&result.references),
        safety: Safety { red_flags: red_flags(&result.red_flags), notices: result.notices },
        abstained: result.abstained,
        usage: Usage {
            prompt_tokens: generation.prompt_tokens,
            completion_tokens: generation.tokens,
            total_tokens: generation.prompt_tokens + generation.tokens,
            prompt_tokens_details: PromptTokens { cached_tokens: generation.cached_tokens },
        },
        timings_ms: Timings {
            embed: timings.embed,
            retrieve: timings.retrieve,
            excerpt: timings.excerpt,
            prefill: timings.prefill,
            first_token: timings.first_token,
            decode: timings.decode,
        },
    }
}
