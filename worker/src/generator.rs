//! A model as the core's generator, whether this process computes it or an upstream.

use std::sync::Arc;
use std::time::Instant;

use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};
use huatuo_generate::{GenerateError, Sampling, Writing};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::scheduler::{Engine, Finish, FinishReason, Job, Piece, Scope, Slot};
use crate::traces::Span;
use crate::upstream::{Deadlines, KnownCitations, Place, Sending, UpstreamError, Upstreams, Usage};

/// One answer of a model.
pub struct AnswerGenerator {
    source: Source,
    sampling: Sampling,
    pieces: Option<Pieces>,
    statistics: GenerationStatistics,
    has_ended: bool,
    started: Instant,
    first: Option<Instant>,
}

/// Where pieces come from.
enum Pieces {
    Engine(UnboundedReceiver<Piece>),
    Upstream(UnboundedReceiver<Result<Piece, UpstreamError>>),
}

/// Who writes the answer.
pub enum Source {
    /// A model of this process.
    Engine {
        /// The model.
        engine: Arc<Engine>,
        /// Whose answer it is.
        scope: Scope,
        /// The place in the queue that the request took at its beginning.
        slot: Option<Slot>,
    },
    /// Another server.
    Upstream {
        /// All of them.
        upstreams: Arc<Upstreams>,
        /// The model's name here.
        model: String,
        /// Where their answers are read: the client's connections live there.
        runtime: Handle,
        /// The place among answers under way that the request took at its beginning.
        place: Option<Place>,
        /// How long the answer may take, counted from the request's beginning.
        deadlines: Deadlines,
        /// What they answer a part of.
        span: Span,
    },
}

/// Why an answer failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AnswerError {
    /// The model failed, or refused the prompt.
    #[error("{0}")]
    Generate(Arc<GenerateError>),
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, {most} is the most that this model takes with its answer: ask a shorter question or \
         give fewer references"
    )]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens there is room for.
        most: usize,
    },
    /// No upstream answers.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The model was let go.
    #[error("the model was stopped")]
    Stopped,
}

impl From<GenerateError> for AnswerError {
    fn from(error: GenerateError) -> Self {
        Self::Generate(Arc::new(error))
    }
}

impl AnswerGenerator {
    /// An answer that begins with the next prompt.
    pub fn new(source: Source, sampling: Sampling) -> Self {
        Self {
            source,
            sampling,
            pieces: None,
            statistics: GenerationStatistics::default(),
            has_ended: false,
            started: Instant::now(),
            first: None,
        }
    }
}

impl Generator for AnswerGenerator {
    type Error = AnswerError;

    fn form(&self) -> PromptForm {
        match &self.source {
            Source::Engine { engine, .. } => engine.language().form(),
            Source::Upstream { .. } => PromptForm::Turns,
        }
    }

    /// A server keeps what it reads by text, not by conversation.
    fn references_read(&self) -> &[PromptReference] {
        &[]
    }

    /// What prompts share is found again in the scheduler; a step for a beginning alone would delay others.
    async fn read_ahead(&mut self, _: &[Vec<Message>; 2]) -> Result<(), AnswerError> {
        Ok(())
    }

    async fn start(&mut self, prompt: &Prompt) -> Result<(), AnswerError> {
        self.started = Instant::now();
        match &mut self.source {
            Source::Engine { engine, scope, slot } => {
                let language = engine.language();
                let writing = Writing::grounded(language, &self.sampling, &prompt.references)?;
                let (ids, dropped_turns) = language.fit(prompt, self.sampling.max_tokens)?;
                language.check(&ids)?;
                let most = engine.most_tokens();
                if ids.len() >= most {
                    return Err(AnswerError::TooLong { tokens: ids.len(), most });
                }
                self.statistics =
                    GenerationStatistics { prompt_tokens: ids.len(), dropped_turns, ..GenerationStatistics::default() };
                let slot = slot.take().ok_or(AnswerError::Stopped)?; // one prompt a request
                let (pieces, receiver) = unbounded_channel();
                self.pieces = Some(Pieces::Engine(receiver));
                engine.submit(Job { ids, writing, ignores_stops: false, scope: *scope, pieces, slot });
            }
            Source::Upstream { upstreams, model, runtime, place, deadlines, span } => {
                let body = chat_body(&prompt.messages, &self.sampling);
                let (upstreams, model) = (Arc::clone(upstreams), model.clone());
                let place = place.take().ok_or(AnswerError::Stopped)?; // one prompt a request
                let sending = Sending { place, deadlines: *deadlines, span: span.clone() };
                let references = prompt.references.len();
                let (pieces, receiver) = unbounded_channel();
                self.pieces = Some(Pieces::Upstream(receiver));
                runtime.spawn(async move {
                    let gone = pieces.clone();
                    tokio::select! {
                        // Dropped with its connection when nobody listens any more.
                        () = gone.closed() => {}
                        result = relay(&upstreams, &model, body, sending, references, &pieces) => {
                            let _ = pieces.send(result.map(Piece::Done));
                        }
                    }
                });
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<String>, AnswerError> {
        if self.has_ended {
            return Ok(None);
        }
        let piece = match self.pieces.as_mut().ok_or(AnswerError::Stopped)? {
            Pieces::Engine(pieces) => pieces.recv().await.ok_or(AnswerError::Stopped)?,
            Pieces::Upstream(pieces) => pieces.recv().await.ok_or(AnswerError::Stopped)??,
        };
        let first = *self.first.get_or_insert_with(Instant::now);
        match piece {
            Piece::Text(text) => {
                self.statistics.tokens += 1;
                Ok(Some(text))
            }
            Piece::Failed(error) => Err(AnswerError::Generate(error)),
            Piece::Done(finish) => {
                let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1000.0;
                self.has_ended = true;
                self.statistics.tokens = finish.tokens;
                self.statistics.prompt_tokens = finish.prompt_tokens;
                self.statistics.cached_tokens = finish.cached_tokens;
                self.statistics.decode_ms = milliseconds(first);
                self.statistics.prefill_ms = milliseconds(self.started) - self.statistics.decode_ms;
                Ok(None)
            }
        }
    }

    fn statistics(&self) -> GenerationStatistics {
        self.statistics
    }
}

fn chat_body(messages: &[Message], sampling: &Sampling) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({ "role": message.role, "content": message.content })).collect();
    let mut body = json!({
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed.cast_signed(),
        "max_tokens": sampling.max_tokens,
    });
    if !sampling.stop_strings.is_empty() {
        body["stop"] = json!(sampling.stop_strings);
    }
    body
}

/// Passes an upstream's answer on, without citations of references that were not given.
async fn relay(
    upstreams: &Upstreams,
    model: &str,
    body: Value,
    sending: Sending,
    references: usize,
    pieces: &UnboundedSender<Result<Piece, UpstreamError>>,
) -> Result<Finish, UpstreamError> {
    let mut stream = upstreams.send(model, "/v1/chat/completions", body, sending).await?;
    let (mut citations, mut reason) = (KnownCitations::new(references), FinishReason::Stop);
    loop {
        let part = stream.next().await?;
        for chunk in part.chunks {
            if chunk["choices"][0]["finish_reason"] == "length" {
                reason = FinishReason::Length;
            }
            // Many begin with an empty text, which is no token yet.
            let text = chunk["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty());
            if let Some(text) = text {
                let _ = pieces.send(Ok(Piece::Text(citations.push(text))));
            }
        }
        if part.is_last {
            let _ = pieces.send(Ok(Piece::Text(citations.finish())));
            let Usage { prompt_tokens, cached_tokens, tokens } = stream.usage();
            return Ok(Finish { reason, prompt_tokens, cached_tokens, tokens });
        }
    }
}
