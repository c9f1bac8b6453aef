//! The thread of a model.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use huatuo_compute::{ComputeError, Device};
use huatuo_generate::{Decoder, GenerateError, KvCache, Language, Reading, Writing, runs_in_a_circle};
use tokio::sync::mpsc::UnboundedSender;

use super::engine::{Counters, Parts};
use super::prefixes::Prefixes;
use super::{Engine, Finish, FinishReason, Job, Piece, Scope, plan};

/// Bounds of a model's scheduler.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerOptions {
    /// Texts that are read or written at once.
    pub most_running: usize,
    /// Texts that may wait.
    pub most_waiting: usize,
    /// Bytes of keys and values, of all texts and of those kept for later.
    pub kv_bytes: usize,
    /// Tokens that a step reads at most, prompts and answers together; no more than the device takes at once.
    pub step_tokens: usize,
}

/// Starts a model's thread, which loads the decoder and tells when it is there. `load` is called again when its device was lost.
/// The other results are what the decoder's file says beside its weights, and what it computes on.
pub fn start<D: Device>(
    name: &str,
    options: SchedulerOptions,
    load: impl FnMut() -> anyhow::Result<(Decoder<D>, Language, String)> + Send + 'static,
) -> anyhow::Result<Engine> {
    let (told, loaded) = mpsc::channel();
    let (inbox, jobs) = mpsc::channel();
    let counters = Arc::new(Counters::default());
    let shared = Arc::clone(&counters);
    let thread = std::thread::Builder::new().name(format!("model {name}")).spawn(move || {
        let mut load = load;
        match load().and_then(|(decoder, language, device)| {
            let most_tokens = most_tokens(&decoder, options.kv_bytes)?;
            Ok((decoder, Arc::new(language.within(most_tokens)), device, most_tokens))
        }) {
            Err(error) => drop(told.send(Err(error))),
            Ok((decoder, language, device, most_tokens)) => {
                let _fuse = Fuse(Arc::clone(&shared));
                let scheduler = Scheduler::new(decoder, Arc::clone(&language), options, shared, Box::new(load));
                if told.send(Ok((language, device, most_tokens))).is_ok() {
                    scheduler.run(&jobs);
                }
            }
        }
    })?;
    let (language, device, most_tokens) = loaded.recv()??;
    let SchedulerOptions { most_running, most_waiting, kv_bytes: kv_budget, .. } = options;
    let parts = Parts { language, counters, inbox, thread, most_waiting, most_running, kv_budget, most_tokens, device };
    Ok(Engine::new(parts))
}

/// Tells a thread's death to those who ask whether it is ready.
struct Fuse(Arc<Counters>);

impl Drop for Fuse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_dead.store(true, Ordering::Relaxed);
        }
    }
}

/// Most tokens that a text may have when it has all memory.
fn most_tokens<D: Device>(decoder: &Decoder<D>, kv_bytes: usize) -> anyhow::Result<usize> {
    let (empty, context) = (decoder.new_cache(), decoder.architecture().context);
    let fits = |tokens: usize| decoder.cache_growth(&empty, tokens) <= kv_bytes;
    let (mut most, mut too_many) = (0, context + 1);
    while too_many - most > 1 {
        let middle = most + (too_many - most) / 2;
        if fits(middle) {
            most = middle;
        } else {
            too_many = middle;
        }
    }
    const FEWEST: usize = 64;
    if most < FEWEST.min(context) {
        let needed = decoder.cache_growth(&empty, FEWEST);
        anyhow::bail!(
            "kv_bytes is {kv_bytes}, a text of {FEWEST} tokens needs {needed} bytes of keys and values: give it more"
        );
    }
    Ok(most)
}

/// A text in the batch, or one that gave its memory to others.
struct Sequence<D: Device> {
    writing: Writing,
    ignores_stops: bool,
    scope: Scope,
    pieces: UnboundedSender<Piece>,
    /// Tokens of the prompt and then of the answer; the cache holds those that were read.
    ids: Vec<u32>,
    cache: KvCache<D>,
    prompt: usize,
    cached: usize,
    since: Instant,
}

impl<D: Device> Sequence<D> {
    fn left(&self) -> usize {
        self.ids.len() - self.cache.len()
    }

    fn finish(&self, reason: FinishReason) -> Finish {
        let (prompt_tokens, tokens) = (self.prompt, self.ids.len() - self.prompt);
        Finish { reason, prompt_tokens, cached_tokens: self.cached, tokens }
    }
}

type Load<D> = Box<dyn FnMut() -> anyhow::Result<(Decoder<D>, Language, String)>>;

struct Scheduler<D: Device> {
    decoder: Decoder<D>,
    language: Arc<Language>,
    options: SchedulerOptions,
    counters: Arc<Counters>,
    load: Load<D>,
    waiting: VecDeque<Job>,
    /// Texts that gave their memory to others, and go on before those that wait.
    preempted: VecDeque<Sequence<D>>,
    /// Oldest first.
    running: Vec<Sequence<D>>,
    prefixes: Prefixes<D>,
    logits: Vec<f32>,
    losses: usize,
}

impl<D: Device> Scheduler<D> {
    fn new(
        mut decoder: Decoder<D>,
        language: Arc<Language>,
        mut options: SchedulerOptions,
        counters: Arc<Counters>,
        load: Load<D>,
    ) -> Self {
        options.step_tokens = options.step_tokens.clamp(1, decoder.chunk());
        options.most_running = options.most_running.clamp(1, options.step_tokens);
        prepare(&mut decoder, &options);
        let mut this = Self {
            decoder,
            language,
            options,
            counters,
            load,
            waiting: VecDeque::new(),
            preempted: VecDeque::new(),
            running: Vec::new(),
            prefixes: Prefixes::new(),
            logits: Vec::new(),
            losses: 0,
        };
        this.read_beginnings();
        this
    }

    /// Reads what all grounded prompts begin with, which is no secret. What can't be read now is read with the first prompt.
    fn read_beginnings(&mut self) {
        let encoded = self.language.form().beginnings(&[], &[]).map(|messages| self.language.encode_prompt(&messages));
        let [Ok(mut ids), Ok(other)] = encoded else { return };
        ids.truncate(ids.iter().zip(&other).take_while(|(a, b)| a == b).count());
        let mut cache = self.decoder.new_cache();
        if ids.is_empty() || self.decoder.cache_growth(&cache, ids.len()) > self.options.kv_bytes {
            return;
        }
        for chunk in ids.chunks(self.decoder.chunk()) {
            self.decoder.forward(chunk, &mut cache, false);
        }
        if pollster::block_on(self.decoder.settle()).is_ok() {
            self.prefixes.keep(Scope::EVERYBODY, ids, cache);
        }
    }

    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let is_idle = self.waiting.is_empty() && self.preempted.is_empty() && self.running.is_empty();
            if is_idle {
                self.tell();
                match jobs.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(mpsc::RecvError) => return,
                }
            }
            self.waiting.extend(jobs.try_iter());
            self.drop_left();
            self.admit();
            self.tell();
            if self.running.is_empty() {
                continue;
            }
            match self.step() {
                Ok(()) => self.losses = 0,
                Err(GenerateError::Weights(ComputeError::DeviceLost)) if self.recover() => {}
                Err(error) => {
                    self.fail_all(error);
                    self.counters.is_dead.store(true, Ordering::Relaxed);
                    return;
                }
            }
            self.tell();
        }
    }

    fn tell(&self) {
        self.counters.running.store(self.running.len() + self.preempted.len(), Ordering::Relaxed);
        // What is only kept for later gives way to whoever comes: it is not used. Pages that texts share count for each of them,
        // up to what there really is.
        let used: usize = self.running.iter().map(|text| self.decoder.cache_bytes(&text.cache)).sum();
        self.counters.kv_used.store(used.min(self.decoder.cache_memory()), Ordering::Relaxed);
    }

    /// Takes texts out whose listeners went away.
    fn drop_left(&mut self) {
        let before = self.waiting.len() + self.preempted.len() + self.running.len();
        self.waiting.retain(|job| !job.pieces.is_closed());
        self.preempted.retain(|text| !text.pieces.is_closed());
        self.running.retain(|text| !text.pieces.is_closed());
        let left = before - self.waiting.len() - self.preempted.len() - self.running.len();
        self.counters.abandoned.fetch_add(left as u64, Ordering::Relaxed);
    }

    /// Lets texts into the batch while there is room for their prompts.
    fn admit(&mut self) {
        while self.running.len() < self.options.most_running {
            let text = match self.preempted.pop_front() {
                Some(text) => text,
                None => match self.waiting.pop_front() {
                    Some(job) => self.begin(job),
                    None => return,
                },
            };
            let needed = self.decoder.cache_growth(&text.cache, text.left());
            if !self.make_room(needed) && !self.running.is_empty() {
                self.preempted.push_front(text);
                return;
            }
            self.running.push(text);
        }
    }

    /// Takes a job out of the queue.
    fn begin(&mut self, job: Job) -> Sequence<D> {
        let Job { ids, writing, ignores_stops, scope, pieces, slot } = job;
        drop(slot);
        let cache = self.prefixes.find(&self.decoder, scope, &ids);
        let (prompt, cached) = (ids.len(), cache.len());
        self.counters.prompt_tokens.fetch_add(prompt as u64, Ordering::Relaxed);
        self.counters.cached_tokens.fetch_add(cached as u64, Ordering::Relaxed);
        Sequence { writing, ignores_stops, scope, pieces, ids, cache, prompt, cached, since: Instant::now() }
    }

    /// Frees so many bytes of what is only kept for later; whether they are free.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.decoder.cache_memory() + bytes > self.options.kv_bytes {
            if !self.prefixes.drop_oldest() {
                return false;
            }
        }
        true
    }

    /// Rows of the next step that memory is there for. Where it is not, the text that came last gives way.
    fn plan(&mut self) -> Vec<usize> {
        loop {
            let left: Vec<usize> = self.running.iter().map(Sequence::left).collect();
            let rows = plan::rows(&left, self.options.step_tokens);
            let growth = |(text, rows): (&Sequence<D>, &usize)| match *rows {
                0 => 0,
                rows => self.decoder.cache_growth(&text.cache, rows),
            };
            let needed = self.running.iter().zip(&rows).map(growth).sum();
            if self.make_room(needed) || self.running.len() == 1 {
                return rows;
            }
            if let Some(mut text) = self.running.pop() {
                text.cache = self.decoder.new_cache();
                self.counters.preempted.fetch_add(1, Ordering::Relaxed);
                self.preempted.push_front(text);
            }
        }
    }

    fn step(&mut self) -> Result<(), GenerateError> {
        let rows = self.plan();
        let mut readings = Vec::with_capacity(rows.len());
        let mut scored = Vec::new();
        for (at, (text, &rows)) in self.running.iter_mut().zip(&rows).enumerate().filter(|(_, (_, rows))| **rows > 0) {
            let from = text.cache.len();
            let is_scored = from + rows == text.ids.len();
            if is_scored {
                scored.push(at);
            }
            readings.push(Reading { ids: &text.ids[from..from + rows], cache: &mut text.cache, scored: is_scored });
        }
        self.decoder.forward_together(&mut readings);
        drop(readings);
        let vocabulary = self.decoder.vocabulary();
        self.logits.resize(scored.len() * vocabulary, 0.0);
        match scored.is_empty() {
            true => pollster::block_on(self.decoder.settle())?,
            false => pollster::block_on(self.decoder.scores(&mut self.logits))?,
        }
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
        self.counters.step_rows.fetch_add(rows.iter().sum::<usize>() as u64, Ordering::Relaxed);
        let mut ended = Vec::new();
        for (at, logits) in scored.into_iter().zip(self.logits.chunks_exact_mut(vocabulary)) {
            if write(&self.language, &mut self.running[at], logits) {
                ended.push(at);
            }
            self.counters.tokens.fetch_add(1, Ordering::Relaxed);
        }
        for at in ended.into_iter().rev() {
            let text = self.running.remove(at);
            self.counters.finished.fetch_add(1, Ordering::Relaxed);
            self.counters.service_ms.fetch_add(text.since.elapsed().as_millis() as u64, Ordering::Relaxed);
            self.prefixes.keep(text.scope, text.ids, text.cache);
        }
        Ok(())
    }

    /// Loads the model once more after its device was lost; what was read is read again.
    fn recover(&mut self) -> bool {
        const MOST_LOSSES: usize = 3;
        self.losses += 1;
        if self.losses > MOST_LOSSES {
            return false;
        }
        tracing::warn!(losses = self.losses, "the graphics processor was lost; the model is loaded once more");
        self.prefixes.clear();
        match (self.load)() {
            Ok((mut decoder, _, _)) if decoder.architecture() == self.decoder.architecture() => {
                prepare(&mut decoder, &self.options);
                for text in self.running.iter_mut().chain(&mut self.preempted) {
                    text.cache = decoder.new_cache();
                }
                self.decoder = decoder;
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!("{error:#}");
                false
            }
        }
    }

    fn fail_all(&mut self, error: GenerateError) {
        tracing::error!("the model stopped: {error}");
        let error = Arc::new(error);
        let texts = self.running.drain(..).chain(self.preempted.drain(..)).map(|text| text.pieces);
        for pieces in texts.chain(self.waiting.drain(..).map(|job| job.pieces)) {
            let _ = pieces.send(Piece::Failed(Arc::clone(&error)));
        }
        self.tell();
    }
}

/// Has a decoder make room for the texts that it reads together.
fn prepare<D: Device>(decoder: &mut Decoder<D>, options: &SchedulerOptions) {
    decoder.set_texts(options.most_running);
    decoder.share_caches(options.kv_bytes);
}

/// Writes the next token of a text by its scores; whether the text ended with it.
fn write<D: Device>(language: &Language, text: &mut Sequence<D>, logits: &mut [f32]) -> bool {
    let Sequence { writing, pieces, ignores_stops, .. } = text;
    let failed = |error| {
        let _ = pieces.send(Piece::Failed(Arc::new(error)));
        true
    };
    let id = match writing.choose(language, logits, &text.ids, text.prompt) {
        Ok(id) => id,
        Err(error) => return failed(error),
    };
    let is_end = language.stops().contains(&id) && !*ignores_stops;
    if !is_end {
        writing.accept(id);
        text.ids.push(id);
        match writing.show(language, id) {
            Ok(shown) => drop(pieces.send(Piece::Text(shown))),
            Err(error) => return failed(error),
        }
    }
    let answer = &text.ids[text.prompt..];
    let is_full = answer.len() >= writing.sampling().max_tokens || text.ids.len() >= language.context();
    let is_lost = writing.is_grounded() && runs_in_a_circle(answer);
    let reason = match () {
        () if is_end || writing.is_stopped() || is_lost => FinishReason::Stop,
        () if is_full => FinishReason::Length,
        () => return false,
    };
    if let Some(rest) = writing.finish() {
        let _ = pieces.send(Piece::Text(rest));
    }
    let _ = text.pieces.send(Piece::Done(text.finish(reason)));
    true
}
