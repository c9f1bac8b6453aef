//! A scheduled model as the core's generator.

use std::sync::Arc;
use std::time::Instant;

use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};
use huatuo_generate::{GenerateError, Sampling, Writing};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::scheduler::{Engine, Finish, Job, Piece, Scope, Slot};

/// One answer of a model, through its scheduler.
pub struct ScheduledGenerator {
    engine: Arc<Engine>,
    sampling: Sampling,
    scope: Scope,
    /// The place in the queue that the request took at its beginning.
    slot: Option<Slot>,
    pieces: Option<UnboundedReceiver<Piece>>,
    statistics: GenerationStatistics,
    finish: Option<Finish>,
    started: Instant,
    first: Option<Instant>,
}

/// Why a scheduled answer failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduledError {
    /// The model failed, or refused the prompt.
    #[error("{0}")]
    Generate(Arc<GenerateError>),
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, {most} is the most that this model takes with its answer: ask a shorter question or give fewer references"
    )]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens there is room for.
        most: usize,
    },
    /// The model was let go.
    #[error("the model was stopped")]
    Stopped,
}

impl From<GenerateError> for ScheduledError {
    fn from(error: GenerateError) -> Self {
        Self::Generate(Arc::new(error))
    }
}

impl ScheduledGenerator {
    /// An answer that begins with the next prompt.
    pub fn new(engine: Arc<Engine>, sampling: Sampling, scope: Scope, slot: Slot) -> Self {
        Self {
            engine,
            sampling,
            scope,
            slot: Some(slot),
            pieces: None,
            statistics: GenerationStatistics::default(),
            finish: None,
            started: Instant::now(),
            first: None,
        }
    }

    /// How the answer ended, if it did.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }
}

impl Generator for ScheduledGenerator {
    type Error = ScheduledError;

    fn form(&self) -> PromptForm {
        self.engine.language().form()
    }

    /// A server keeps what it reads by text, not by conversation.
    fn references_read(&self) -> &[PromptReference] {
        &[]
    }

    /// What prompts share is found again in the scheduler; a step for a beginning alone would delay others.
    async fn read_ahead(&mut self, _: &[Vec<Message>; 2]) -> Result<(), ScheduledError> {
        Ok(())
    }

    async fn start(&mut self, prompt: &Prompt) -> Result<(), ScheduledError> {
        let language = self.engine.language();
        let writing = Writing::grounded(language, &self.sampling, &prompt.references)?;
        let (ids, dropped_turns) = language.fit(prompt, self.sampling.max_tokens)?;
        language.check(&ids)?;
        let most = self.engine.most_tokens();
        if ids.len() >= most {
            return Err(ScheduledError::TooLong { tokens: ids.len(), most });
        }
        self.statistics =
            GenerationStatistics { prompt_tokens: ids.len(), dropped_turns, ..GenerationStatistics::default() };
        let slot = self.slot.take().ok_or(ScheduledError::Stopped)?; // one prompt a request
        let (pieces, receiver) = unbounded_channel();
        self.engine.submit(Job { ids, writing, ignores_stops: false, scope: self.scope, pieces, slot });
        (self.pieces, self.started) = (Some(receiver), Instant::now());
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<String>, ScheduledError> {
        if self.finish.is_some() {
            return Ok(None);
        }
        let pieces = self.pieces.as_mut().ok_or(ScheduledError::Stopped)?;
        let piece = pieces.recv().await.ok_or(ScheduledError::Stopped)?;
        let first = *self.first.get_or_insert_with(Instant::now);
        match piece {
            Piece::Text(text) => {
                self.statistics.tokens += 1;
                Ok(Some(text))
            }
            Piece::Failed(error) => Err(ScheduledError::Generate(error)),
            Piece::Done(finish) => {
                let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1000.0;
                self.finish = Some(finish);
                self.statistics.tokens = finish.tokens;
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
