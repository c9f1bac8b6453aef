//! The generator on this machine: prompt in, whole characters out.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use huatuo_compute::{ChoiceRule, Device, Draw};
use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};
use huatuo_fetch::clock::now_ms;

use crate::prompt_state;
use crate::sampler::random;
use crate::writing::{Bounds, runs_in_a_circle};
use crate::{
    AnyDecoder, Decoder, GenerateError, Gguf, GgufHeader, KvCache, Language, Sampling, TextTokenizer, Writing,
};

/// Lets a host breathe between chunks of the prompt and between tokens: a page handles its events here.
#[allow(async_fn_in_trait)] // one thread
pub trait Pace {
    /// `Break` ends the answer.
    async fn pause(&mut self) -> ControlFlow<()>;
}

/// A host that has nothing else to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverPause;

impl Pace for NeverPause {
    async fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A model with its tokenizer, and the KV cache of what it read last.
pub struct LocalGenerator<D: Device, P: Pace> {
    decoder: Decoder<D>,
    language: Language,
    writing: Writing,
    cache: KvCache<D>,
    /// Tokens whose keys and values are cached, but for the last one while an answer is written.
    cached: Vec<u32>,
    /// State of the answer's choices, and tokens that are being chosen.
    chooser: Option<D::Chooser>,
    choices: VecDeque<D::Chosen>,
    /// References of the prompt that is cached.
    references: Vec<PromptReference>,
    /// Of the next answer.
    sampling: Sampling,
    pace: P,
    logits: Vec<f32>,
    finished: bool,
    statistics: GenerationStatistics,
}

impl<D: Device, P: Pace> LocalGenerator<D, P> {
    /// Loads a GGUF file, with the tokenizer of a `tokenizer.json` where one is given, else with its own.
    pub fn load(device: D, model: &[u8], tokenizer: Option<&[u8]>, pace: P) -> Result<Self, GenerateError> {
        let gguf = Gguf::parse(model)?;
        Self::new(Decoder::load(device, &gguf)?, &gguf, tokenizer, pace)
    }

    /// Joins a decoder and the header of its file, with the tokenizer of a `tokenizer.json` where one is given, else with
    /// the file's own.
    pub fn new(
        decoder: Decoder<D>,
        gguf: &GgufHeader,
        tokenizer: Option<&[u8]>,
        pace: P,
    ) -> Result<Self, GenerateError> {
        let (vocabulary, context) = (decoder.vocabulary(), decoder.architecture().context);
        let language = Language::new(gguf, tokenizer, vocabulary, context)?;
        let (cache, sampling) = (decoder.new_cache(), Sampling::default());
        Ok(Self {
            writing: Writing::free(&language, &sampling)?,
            logits: vec![0.0; vocabulary],
            cached: Vec::new(),
            chooser: None,
            choices: VecDeque::new(),
            references: Vec::new(),
            finished: true,
            statistics: GenerationStatistics::default(),
            decoder,
            language,
            cache,
            sampling,
            pace,
        })
    }

    /// Whether a decoder has this one's shape.
    pub(crate) fn is_of(&self, decoder: &AnyDecoder) -> bool {
        let (architecture, vocabulary) = match decoder {
            AnyDecoder::Cpu(decoder) => (decoder.architecture(), decoder.vocabulary()),
            AnyDecoder::Gpu(decoder) => (decoder.architecture(), decoder.vocabulary()),
        };
        *architecture == *self.decoder.architecture() && vocabulary == self.decoder.vocabulary()
    }

    /// The same generator with the same model on another device; what the cache held is read again when it is needed.
    pub(crate) fn onto<E: Device>(self, decoder: Decoder<E>) -> LocalGenerator<E, P> {
        LocalGenerator {
            cache: decoder.new_cache(),
            chooser: None,
            choices: VecDeque::new(),
            decoder,
            language: self.language,
            writing: self.writing,
            cached: self.cached,
            references: self.references,
            sampling: self.sampling,
            pace: self.pace,
            logits: self.logits,
            finished: self.finished,
            statistics: self.statistics,
        }
    }

    /// Chooses how tokens are sampled from the next answer on; [`Generator::start`] refuses what is out of range.
    pub fn set_sampling(&mut self, sampling: Sampling) {
        self.sampling = sampling;
    }

    /// What it computes on.
    pub fn device(&self) -> &D {
        self.decoder.device()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        self.language.tokenizer()
    }

    /// Tokens of a prompt's messages under the model's chat template.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        self.language.encode_prompt(messages)
    }

    /// Lets the device find out how it computes this model fastest.
    pub async fn tune(&mut self) -> Result<(), GenerateError> {
        self.decoder.tune().await
    }

    /// Reads tokens, keeping the cached prefix that they share with what was read before.
    pub async fn read(&mut self, ids: &[u32]) -> Result<(), GenerateError> {
        self.language.check(ids)?;
        let started = now_ms();
        let keep = shared(&self.cached, ids).min(self.cache.len()).min(ids.len() - 1); // the last token is read anew for its scores
        self.finished = self.extend(keep, ids, true).await?.is_break();
        self.statistics = GenerationStatistics {
            prompt_tokens: ids.len(),
            cached_tokens: keep,
            prefill_ms: now_ms() - started,
            ..GenerationStatistics::default()
        };
        Ok(())
    }

    /// Forgets all but the first `keep` tokens and reads those of `ids` behind them; with the scores of the next token
    /// where they are wanted.
    async fn extend(&mut self, keep: usize, ids: &[u32], scored: bool) -> Result<ControlFlow<()>, GenerateError> {
        self.drop_choices();
        let keep = keep.min(self.cache.len()); // the last token of an answer may be chosen, but not read
        self.cache.truncate(keep);
        self.cached.truncate(keep);
        let mut rest = &ids[keep..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(self.decoder.chunk()));
            let scored = scored && later.is_empty();
            let read = self.decoder.forward_paced(chunk, &mut self.cache, scored, &mut self.pace).await?;
            if self.cache.len() > self.cached.len() {
                self.cached.extend(chunk); // a stop behind the last part comes when all was read
            }
            if read.is_break() {
                return Ok(read);
            }
            rest = later;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tokens that two beginnings of prompts share, as many as the model's context holds.
    fn shared_tokens(&self, beginnings: &[Vec<Message>; 2]) -> Result<Vec<u32>, GenerateError> {
        let mut ids = self.encode_prompt(&beginnings[0])?;
        let other = self.encode_prompt(&beginnings[1])?;
        ids.truncate(shared(&ids, &other).min(self.decoder.architecture().context - 1));
        Ok(ids)
    }

    /// Reads what all prompts begin with, or takes it from the bytes that an earlier call gave. Gives bytes to keep when
    /// it had to be read.
    pub async fn warm_up(&mut self, kept: Option<&[u8]>) -> Result<Option<Vec<u8>>, GenerateError> {
        let ids = self.shared_tokens(&self.form().beginnings(&[], &[]))?;
        if let Some(cache) = kept.and_then(|bytes| prompt_state::restore(&self.decoder, &ids, bytes)) {
            self.drop_choices();
            (self.cache, self.cached) = (cache, ids);
            return Ok(None);
        }
        self.read_beginning(&ids).await?;
        match shared(&self.cached, &ids).min(self.cache.len()) == ids.len() {
            true => Ok(Some(prompt_state::save(&self.decoder, &self.cache, &ids).await?)),
            false => Ok(None),
        }
    }

    /// Forgets what was read, for comparisons.
    pub fn forget(&mut self) {
        self.drop_choices();
        self.cache.truncate(0);
        self.cached.clear();
        self.references.clear();
    }

    async fn read_beginning(&mut self, ids: &[u32]) -> Result<(), GenerateError> {
        let keep = shared(&self.cached, ids).min(self.cache.len()); // on a new device nothing is cached
        if keep < ids.len() {
            self.references.clear();
            let _ = self.extend(keep, ids, false).await?; // the host that stopped it stops what follows, too
        }
        Ok(())
    }

    /// The next token, `None` at the end of the answer.
    pub async fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        let room = self.cached.len() < self.decoder.architecture().context;
        if self.finished || !room || self.statistics.tokens >= self.writing.sampling().max_tokens {
            self.drop_choices();
            return Ok(None);
        }
        let started = now_ms();
        let missing = self.cached.len().saturating_sub(self.cache.len());
        if missing > usize::from(self.chooser.is_some() || !self.chooses()) {
            // On a new device: all is read again.
            let ids = self.cached.clone();
            let read = self.extend(0, &ids, true).await;
            self.cached = ids; // the log of the conversation, however much of it was read
            if read?.is_break() {
                self.finished = true;
                self.drop_choices();
                return Ok(None);
            }
        }
        let id = match self.chooses() {
            true => self.chosen_token().await?,
            false => self.drawn_token().await?,
        };
        if self.language.stops().contains(&id) {
            self.drop_choices();
            self.finished = true;
            return Ok(None);
        }
        self.writing.accept(id);
        self.cached.push(id);
        self.statistics.tokens += 1;
        self.statistics.decode_ms += now_ms() - started;
        let answer = &self.cached[self.statistics.prompt_tokens..];
        self.finished = self.pace.pause().await.is_break() || runs_in_a_circle(answer);
        Ok(Some(id))
    }

    /// Whether tokens are chosen where the scores are.
    fn chooses(&self) -> bool {
        /// What is written before is compared token by token there.
        const LONGEST_WINDOW: usize = 4096;
        let &Sampling { temperature, repetition_penalty, repetition_window, .. } = self.writing.sampling();
        let fits = repetition_penalty == 1.0 || repetition_window <= LONGEST_WINDOW;
        fits && (temperature == 0.0 || self.draw().is_some())
    }

    fn only_quotes(&self) -> bool {
        matches!(self.writing.bounds(), Bounds::Quoting(_))
    }

    /// How the device draws a token; nothing where it takes the best one, or can't draw as it is asked to: then the scores
    /// come to the processor. The processor draws for itself, so that answers stay what they were.
    fn draw(&self) -> Option<Draw> {
        let &Sampling { temperature, top_k, top_p, min_p, .. } = self.writing.sampling();
        /// Lower ones leave one token, and no number to divide by.
        const LOWEST_TEMPERATURE: f64 = 1e-6;
        let can = D::AHEAD > 0
            && !self.only_quotes()
            && (1..=Draw::MOST).contains(&top_k)
            && self.decoder.vocabulary() <= Draw::LARGEST_VOCABULARY;
        let draw = Draw { temperature: temperature as f32, top_k, top_p: top_p as f32, min_p: min_p as f32 };
        (can && temperature >= LOWEST_TEMPERATURE).then_some(draw)
    }

    /// A token chosen where the scores are, the best one or one that is drawn. A device that gains by it chooses some tokens
    /// ahead of those that are looked at here; one that may only quote is told anew what it may write before each.
    async fn chosen_token(&mut self) -> Result<u32, GenerateError> {
        let (room, draw) = (self.decoder.architecture().context, self.draw());
        let ahead = if self.only_quotes() { 0 } else { D::AHEAD };
        let sampling = self.writing.sampling();
        let chooser = match &mut self.chooser {
            Some(chooser) => chooser,
            none => none.insert(self.decoder.chooser(ChoiceRule {
                vocabulary: self.decoder.vocabulary(),
                state: match self.writing.bounds() {
                    Bounds::Citing(mask) => mask.state(),
                    Bounds::Free | Bounds::Quoting(_) => 0,
                },
                draw,
                automaton: match self.writing.bounds() {
                    Bounds::Citing(mask) => Some(mask.automaton()),
                    Bounds::Free | Bounds::Quoting(_) => None,
                },
                penalty: sampling.repetition_penalty as f32,
                window: sampling.repetition_window,
                written: match sampling.repetition_in_prompt {
                    true => self.cached.clone(),
                    false => self.cached[self.statistics.prompt_tokens..].to_vec(),
                },
            })),
        };
        while self.choices.len() <= ahead && (self.choices.is_empty() || self.cache.len() < room) {
            // The token before this one, chosen but not read; the prompt has been read when the first one is chosen.
            if self.cache.len() < self.cached.len() + self.choices.len() {
                self.decoder.forward_chosen(chooser, &mut self.cache);
            }
            let allowed = match self.writing.bounds() {
                Bounds::Quoting(mask) => Some(mask.allowed(self.language.stops())),
                Bounds::Free | Bounds::Citing(_) => None,
            };
            let random = random(sampling.seed, self.statistics.tokens + self.choices.len());
            self.choices.push_back(self.decoder.choose(chooser, allowed.as_deref(), random));
        }
        match self.choices.pop_front() {
            Some(chosen) => self.decoder.chosen(chosen).await,
            None => unreachable!("one was chosen above"),
        }
    }

    /// A token drawn at random; the scores come to the processor for that.
    async fn drawn_token(&mut self) -> Result<u32, GenerateError> {
        if self.cache.len() < self.cached.len() {
            let last = self.cached[self.cached.len() - 1];
            self.decoder.forward(&[last], &mut self.cache, true);
        }
        self.decoder.scores(&mut self.logits).await?;
        self.writing.choose(&self.language, &mut self.logits, &self.cached, self.statistics.prompt_tokens)
    }

    /// Forgets tokens that were chosen ahead, with their keys and values.
    fn drop_choices(&mut self) {
        self.choices.clear();
        self.chooser = None;
        self.cache.truncate(self.cached.len());
    }
}

/// How many tokens two lists begin with in common.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<D: Device, P: Pace> Generator for LocalGenerator<D, P> {
    type Error = GenerateError;

    fn form(&self) -> PromptForm {
        self.language.form()
    }

    fn references_read(&self) -> &[PromptReference] {
        &self.references
    }

    async fn read_ahead(&mut self, beginnings: &[Vec<Message>; 2]) -> Result<(), GenerateError> {
        let ids = self.shared_tokens(beginnings)?;
        self.read_beginning(&ids).await
    }

    async fn start(&mut self, prompt: &Prompt) -> Result<(), GenerateError> {
        self.writing = Writing::grounded(&self.language, &self.sampling, &prompt.references)?;
        self.references.clear();
        let (ids, dropped_turns) = self.language.fit(prompt, self.sampling.max_tokens)?;
        self.read(&ids).await?;
        self.statistics.dropped_turns = dropped_turns;
        if !self.finished {
            self.references.clone_from(&prompt.references);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        let Some(id) = self.next_token().await? else { return Ok(self.writing.finish()) };
        let text = self.writing.show(&self.language, id)?;
        self.finished |= self.writing.is_stopped();
        Ok(Some(text))
    }

    fn statistics(&self) -> GenerationStatistics {
        self.statistics
    }
}
