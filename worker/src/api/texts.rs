//! Texts that a model writes for one request.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};
use huatuo_generate::{Sampling, Writing};
use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;

use super::guard::{Caller, random_id};
use super::listening::Listening;
use super::openai::{Asked, PromptTokens, Usage};
use super::stream::{Events, Gone};
use super::{ApiError, App};
use crate::scheduler::{Busy, Engine, Finish, FinishReason, Job, Piece, Slot};
use crate::traces::{FIRST_TOKEN, GENERATE, Span};

/// One text on its way.
pub struct Text {
    listening: Listening<Piece>,
    last: Instant,
    has_begun: bool,
    span: Span,
}

/// What comes next of a text.
pub enum Next {
    /// More of it, perhaps nothing that can be shown yet.
    More(String),
    /// Its end.
    End(Finish),
}

impl Text {
    /// The next part.
    pub async fn next(&mut self) -> Result<Next, ApiError> {
        self.part().await.inspect_err(|error| self.span.fail(error.code()))
    }

    async fn part(&mut self) -> Result<Next, ApiError> {
        let piece = self.listening.next(|piece| matches!(piece, Piece::Text(_))).await?;
        match piece {
            Piece::Failed(error) => Err(ApiError::from(&*error)),
            Piece::Done(finish) => {
                self.span.tokens(finish.prompt_tokens, finish.cached_tokens, finish.tokens);
                Ok(Next::End(finish))
            }
            Piece::Text(text) => {
                let seconds = self.last.elapsed().as_secs_f64();
                let metrics = &self.listening.app().metrics;
                match self.has_begun {
                    true => metrics.next_token(seconds),
                    false => {
                        metrics.first_token(seconds);
                        self.span.event(FIRST_TOKEN);
                    }
                }
                (self.last, self.has_begun) = (Instant::now(), true);
                Ok(Next::More(text))
            }
        }
    }

    /// The whole text.
    pub async fn whole(mut self) -> Result<(String, Finish), ApiError> {
        let mut whole = String::new();
        loop {
            match self.next().await? {
                Next::More(text) => whole.push_str(&text),
                Next::End(finish) => return Ok((whole, finish)),
            }
        }
    }
}

/// Has a prompt answered `n` times; all of the answers get a place in the queue, or none.
pub fn begin(
    app: &Arc<App>,
    caller: &Caller,
    engine: &Engine,
    ids: Vec<u32>,
    asked: &Asked,
    field: &'static str,
) -> Result<Vec<Text>, ApiError> {
    let most = engine.most_tokens();
    if ids.is_empty() {
        return Err(ApiError::field(field, "has no token that the model knows"));
    }
    let mut sampling = asked.sampling.clone();
    if !asked.has_max_tokens {
        sampling.max_tokens = sampling.max_tokens.min(most.saturating_sub(ids.len()));
    }
    let wanted = sampling.max_tokens.max(1);
    if ids.len() + wanted > most {
        return Err(ApiError::ContextLength { field, tokens: ids.len(), asked: wanted, most });
    }
    let slots = (0..asked.n).map(|_| engine.reserve()).collect::<Result<Vec<Slot>, Busy>>()?;
    let mut texts = Vec::with_capacity(asked.n);
    for (slot, place) in slots.into_iter().zip(0u64..) {
        let sampling = Sampling { seed: sampling.seed.wrapping_add(place), ..sampling.clone() };
        let writing = Writing::free(engine.language(), &sampling).map_err(|error| ApiError::from(&error))?;
        let (pieces, receiver) = unbounded_channel();
        let ignores_stops = asked.ignores_stops;
        engine.submit(Job { ids: ids.clone(), writing, ignores_stops, scope: caller.scope, pieces, slot });
        let (listening, span) = (Listening::new(app, receiver), caller.span.part(GENERATE));
        texts.push(Text { listening, last: Instant::now(), has_begun: false, span });
    }
    Ok(texts)
}

/// What all parts of an answer repeat.
#[derive(Clone)]
pub struct Head {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
}

impl Head {
    /// A new answer of a model.
    pub fn new(prefix: &str, model: String) -> Self {
        Self { id: random_id(prefix), created: unix_seconds(), model }
    }
}

/// A part of a stream of texts.
pub enum Part {
    /// A text begins.
    Begin(usize),
    /// More of a text, never nothing.
    More(usize, String),
    /// A text ends.
    End(usize, Finish),
    /// Tokens of all texts.
    Usage(Usage),
}

/// Sends the parts of texts as they come, in the form that `chunk` gives them, and then what ends OpenAI's streams. A part
/// without a form is passed over.
pub async fn stream<C: Serialize>(
    events: &Events,
    texts: Vec<Text>,
    include_usage: bool,
    chunk: impl Fn(Part) -> Option<C>,
) -> Result<(), ApiError> {
    let send = async |part| match chunk(part) {
        Some(chunk) => events.json(&chunk).await,
        None => Ok(()),
    };
    let send = &send;
    let one = async |(index, mut text): (usize, Text)| -> Result<Option<Finish>, ApiError> {
        if let Err(Gone) = send(Part::Begin(index)).await {
            return Ok(None);
        }
        loop {
            let sent = match text.next().await? {
                Next::More(text) if text.is_empty() => Ok(()),
                Next::More(text) => send(Part::More(index, text)).await,
                Next::End(finish) => return Ok(send(Part::End(index, finish)).await.is_ok().then_some(finish)),
            };
            if let Err(Gone) = sent {
                return Ok(None);
            }
        }
    };
    let mut writing: FuturesUnordered<_> = texts.into_iter().enumerate().map(one).collect();
    let mut finishes = Vec::new();
    while let Some(finish) = writing.next().await {
        finishes.extend(finish?);
    }
    if include_usage {
        let _ = send(Part::Usage(usage(&finishes))).await;
    }
    let _ = events.done().await; // who went away needs no end
    Ok(())
}

/// Tokens of answers to one prompt.
pub fn usage(finishes: &[Finish]) -> Usage {
    let prompt_tokens = finishes.first().map_or(0, |finish| finish.prompt_tokens);
    let completion_tokens = finishes.iter().map(|finish| finish.tokens).sum();
    let cached_tokens = finishes.first().map_or(0, |finish| finish.cached_tokens);
    let prompt_tokens_details = PromptTokens { cached_tokens };
    Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens, prompt_tokens_details }
}

/// OpenAI's word for why a text ended.
pub fn reason(finish: &Finish) -> &'static str {
    match finish.reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
