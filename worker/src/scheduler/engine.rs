//! A model that answers, as the rest of the worker sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use huatuo_generate::{GenerateError, Language, Writing};
use tokio::sync::mpsc::UnboundedSender;

/// Whose texts may share what was read of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub u64);

impl Scope {
    /// Texts that are no secret.
    pub const EVERYBODY: Self = Self(0);
}

/// One text to be written.
pub struct Job {
    /// Tokens of the prompt.
    pub ids: Vec<u32>,
    /// How the text is written.
    pub writing: Writing,
    /// Whether the text goes on behind tokens that end an answer, to the longest allowed: for measurements.
    pub ignores_stops: bool,
    /// Whose it is.
    pub scope: Scope,
    /// Where it goes; closed when nobody listens.
    pub pieces: UnboundedSender<Piece>,
    /// Its place in the queue.
    pub slot: Slot,
}

/// What becomes of a job, in order; the last one is `Done` or `Failed`.
#[derive(Debug)]
pub enum Piece {
    /// A token was written, which may complete text or not.
    Text(String),
    /// The text is complete.
    Done(Finish),
    /// It can't be completed.
    Failed(Arc<GenerateError>),
}

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that had not to be read.
    pub cached_tokens: usize,
    /// Tokens written.
    pub tokens: usize,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// By itself, or at a stop text.
    Stop,
    /// At the longest that was allowed, or that the model can hold.
    Length,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Seconds after which there is likely room.
    pub retry_after: u64,
}

/// What an engine counts; shared with its thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub waiting: AtomicUsize,
    pub running: AtomicUsize,
    pub kv_used: AtomicUsize,
    pub prompt_tokens: AtomicU64,
    pub cached_tokens: AtomicU64,
    pub tokens: AtomicU64,
    pub steps: AtomicU64,
    pub step_rows: AtomicU64,
    pub abandoned: AtomicU64,
    pub preempted: AtomicU64,
    pub finished: AtomicU64,
    /// Milliseconds that texts took from queue to end, in sum.
    pub service_ms: AtomicU64,
    pub is_dead: AtomicBool,
}

/// Numbers of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineSnapshot {
    /// Texts that wait for their first step.
    pub waiting: usize,
    /// Texts that are read or written.
    pub running: usize,
    /// Bytes of keys and values.
    pub kv_used: usize,
    /// Bytes that they may have.
    pub kv_budget: usize,
    /// Prompt tokens taken in.
    pub prompt_tokens: u64,
    /// Of these, tokens that had not to be read.
    pub cached_tokens: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Steps made.
    pub steps: u64,
    /// Tokens read in them, prompts and answers.
    pub step_rows: u64,
    /// Texts whose client went away.
    pub abandoned: u64,
    /// Times that a text gave its memory to others.
    pub preempted: u64,
    /// Texts that ended.
    pub finished: u64,
}

/// A place in an engine's queue, given back when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Counters>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A loaded model with its queue.
pub struct Engine {
    language: Arc<Language>,
    counters: Arc<Counters>,
    inbox: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    most_waiting: usize,
    most_running: usize,
    kv_budget: usize,
    most_tokens: usize,
    device: String,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub language: Arc<Language>,
    pub counters: Arc<Counters>,
    pub inbox: mpsc::Sender<Job>,
    pub thread: JoinHandle<()>,
    pub most_waiting: usize,
    pub most_running: usize,
    pub kv_budget: usize,
    pub most_tokens: usize,
    pub device: String,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { language, counters, inbox, thread, most_waiting, most_running, kv_budget, most_tokens, device } =
            parts;
        let (inbox, thread) = (Mutex::new(Some(inbox)), Mutex::new(Some(thread)));
        Self { language, counters, inbox, thread, most_waiting, most_running, kv_budget, most_tokens, device }
    }

    /// Tokenizer, chat template and ends of answers.
    pub fn language(&self) -> &Arc<Language> {
        &self.language
    }

    /// What it computes on, for people.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Most tokens of a prompt and its answer together: the model's context, or less where memory allows less.
    pub fn most_tokens(&self) -> usize {
        self.most_tokens
    }

    /// Takes a place in the queue.
    pub fn reserve(&self) -> Result<Slot, Busy> {
        let take = |waiting: usize| (waiting < self.most_waiting).then_some(waiting + 1);
        match self.counters.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => Ok(Slot(Arc::clone(&self.counters))),
            Err(_) => Err(Busy { retry_after: self.retry_after() }),
        }
    }

    /// Seconds until half of the queue is likely done, by what texts took so far.
    fn retry_after(&self) -> u64 {
        const LONGEST: u64 = 60;
        let finished = self.counters.finished.load(Ordering::Relaxed).max(1);
        let each_ms = self.counters.service_ms.load(Ordering::Relaxed) / finished;
        let rounds = (self.most_waiting / 2).div_ceil(self.most_running.max(1)) as u64;
        (each_ms * rounds).div_ceil(1000).clamp(1, LONGEST)
    }

    /// Has a text written. An engine that was stopped drops it, so that its listener hears nothing more.
    pub fn submit(&self, job: Job) {
        let inbox = self.inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(inbox) = &*inbox {
            let _ = inbox.send(job);
        }
    }

    /// Whether its thread has given up.
    pub fn is_dead(&self) -> bool {
        self.counters.is_dead.load(Ordering::Relaxed)
    }

    /// As if its thread had given up.
    #[cfg(test)]
    pub fn die(&self) {
        self.counters.is_dead.store(true, Ordering::Relaxed);
    }

    /// Whether its thread works and its queue has room.
    pub fn is_ready(&self) -> bool {
        !self.is_dead() && self.counters.waiting.load(Ordering::Acquire) < self.most_waiting
    }

    /// Numbers of this moment.
    pub fn snapshot(&self) -> EngineSnapshot {
        let c = &self.counters;
        EngineSnapshot {
            waiting: c.waiting.load(Ordering::Relaxed),
            running: c.running.load(Ordering::Relaxed),
            kv_used: c.kv_used.load(Ordering::Relaxed),
            kv_budget: self.kv_budget,
            prompt_tokens: c.prompt_tokens.load(Ordering::Relaxed),
            cached_tokens: c.cached_tokens.load(Ordering::Relaxed),
            tokens: c.tokens.load(Ordering::Relaxed),
            steps: c.steps.load(Ordering::Relaxed),
            step_rows: c.step_rows.load(Ordering::Relaxed),
            abandoned: c.abandoned.load(Ordering::Relaxed),
            preempted: c.preempted.load(Ordering::Relaxed),
            finished: c.finished.load(Ordering::Relaxed),
        }
    }

    /// Stops the thread once the texts at hand are done or left, and waits for it.
    pub fn stop(&self) {
        self.inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Not waited for: whoever drops it may be answering others.
        self.inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}
