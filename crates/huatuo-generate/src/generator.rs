//! The generator on this machine: prompt in, whole characters out.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use huatuo_compute::{ChoiceRule, Device, Draw};
use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};
use huatuo_fetch::clock::now_ms;

use crate::prompt_state;
use crate::sampler::random;
use crate::stop_text::StopText;
use crate::text::TokenStream;
use crate::{
    AnyDecoder, ChatTemplate, CitationMask, Decoder, ExtractiveMask, GenerateError, Gguf, GgufHeader, KvCache, Sampler,
    Sampling, TextTokenizer,
};

/// Turns give way to the longest answer, but not to more than this part of the context.
const ANSWER_SHARE: usize = 4;

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
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    stops: Vec<u32>,
    /// Marks of the template that are no tokens, which end an answer as texts.
    text_stops: Vec<&'static str>,
    stop_text: StopText,
    mask: CitationMask,
    /// Whether the model may only quote.
    is_extractive: bool,
    extractive: Option<ExtractiveMask>,
    cache: KvCache<D>,
    /// Tokens whose keys and values are cached, but for the last one while an answer is written.
    cached: Vec<u32>,
    /// State of the answer's choices, and tokens that are being chosen.
    chooser: Option<D::Chooser>,
    choices: VecDeque<D::Chosen>,
    /// References of the prompt that is cached.
    references: Vec<PromptReference>,
    sampling: Sampling,
    sampler: Sampler,
    pace: P,
    logits: Vec<f32>,
    stream: TokenStream,
    /// Whether the answer has shown anything yet.
    begun: bool,
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
        let template = ChatTemplate::from_gguf(gguf)?;
        let tokenizer = match tokenizer {
            Some(json) => TextTokenizer::from_json(json)?.with_ends(gguf)?,
            None => TextTokenizer::from_gguf(gguf)?,
        };
        let (stops, text_stops) = stops(template, &tokenizer)?;
        let (tokens, rows) = (tokenizer.len(), decoder.vocabulary());
        if tokens > rows {
            return Err(GenerateError::TokenizerMismatch { tokens, rows });
        }
        let (cache, sampling) = (decoder.new_cache(), Sampling::default());
        Ok(Self {
            is_extractive: gguf.text("huatuo.answering") == Ok("extractive"),
            extractive: None,
            mask: CitationMask::new(&tokenizer, rows),
            logits: vec![0.0; rows],
            sampler: Sampler::new(&sampling)?,
            stream: TokenStream::default(),
            cached: Vec::new(),
            chooser: None,
            choices: VecDeque::new(),
            references: Vec::new(),
            begun: false,
            finished: true,
            statistics: GenerationStatistics::default(),
            decoder,
            tokenizer,
            template,
            stops,
            text_stops,
            stop_text: StopText::default(),
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
            tokenizer: self.tokenizer,
            template: self.template,
            stops: self.stops,
            text_stops: self.text_stops,
            stop_text: self.stop_text,
            mask: self.mask,
            is_extractive: self.is_extractive,
            extractive: self.extractive,
            cached: self.cached,
            references: self.references,
            sampling: self.sampling,
            sampler: self.sampler,
            pace: self.pace,
            logits: self.logits,
            stream: self.stream,
            begun: self.begun,
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
        &self.tokenizer
    }

    /// Tokens of a prompt's messages under the model's chat template.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        self.template.encode(messages, &self.tokenizer)
    }

    /// Lets the device find out how it computes this model fastest.
    pub async fn tune(&mut self) -> Result<(), GenerateError> {
        self.decoder.tune().await
    }

    /// Reads tokens, keeping the cached prefix that they share with what was read before.
    pub async fn read(&mut self, ids: &[u32]) -> Result<(), GenerateError> {
        if ids.is_empty() {
            return Err(GenerateError::Tokenizer("it has no token for any of the prompt".to_owned()));
        }
        let context = self.decoder.architecture().context;
        if ids.len() + 1 > context {
            return Err(GenerateError::ContextOverflow { tokens: ids.len(), context });
        }
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

    /// Tokens of a prompt, without as many of its oldest turns as there is no room for beside an answer, and the number
    /// of messages left out. System text, references and question are never shortened.
    fn fit(&self, prompt: &Prompt) -> Result<(Vec<u32>, usize), GenerateError> {
        let context = self.decoder.architecture().context;
        let answer = self.sampling.max_tokens.min(context / ANSWER_SHARE);
        let mut messages = prompt.messages.clone();
        loop {
            let ids = self.encode_prompt(&messages)?;
            let dropped = prompt.messages.len() - messages.len();
            if ids.len() + answer <= context || drop_oldest_round(&mut messages) == 0 {
                return Ok((ids, dropped));
            }
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
        if self.finished || !room || self.statistics.tokens >= self.sampling.max_tokens {
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
        if self.stops.contains(&id) {
            self.drop_choices();
            self.finished = true;
            return Ok(None);
        }
        match &mut self.extractive {
            Some(mask) => mask.accept(id),
            None => self.mask.accept(id),
        }
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
        let Sampling { temperature, repetition_penalty, repetition_window, .. } = self.sampling;
        let fits = repetition_penalty == 1.0 || repetition_window <= LONGEST_WINDOW;
        fits && (temperature == 0.0 || self.draw().is_some())
    }

    /// How the device draws a token; nothing where it takes the best one, or can't draw as it is asked to: then the scores
    /// come to the processor. The processor draws for itself, so that answers stay what they were.
    fn draw(&self) -> Option<Draw> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        /// Lower ones leave one token, and no number to divide by.
        const LOWEST_TEMPERATURE: f64 = 1e-6;
        let can = D::AHEAD > 0
            && self.extractive.is_none()
            && (1..=Draw::MOST).contains(&top_k)
            && self.decoder.vocabulary() <= Draw::LARGEST_VOCABULARY;
        let draw = Draw { temperature: temperature as f32, top_k, top_p: top_p as f32, min_p: min_p as f32 };
        (can && temperature >= LOWEST_TEMPERATURE).then_some(draw)
    }

    /// A token chosen where the scores are, the best one or one that is drawn. A device that gains by it chooses some tokens
    /// ahead of those that are looked at here; one that may only quote is told anew what it may write before each.
    async fn chosen_token(&mut self) -> Result<u32, GenerateError> {
        let (ahead, room, draw) = (D::AHEAD, self.decoder.architecture().context, self.draw());
        let chooser = match &mut self.chooser {
            Some(chooser) => chooser,
            none => none.insert(self.decoder.chooser(ChoiceRule {
                vocabulary: self.decoder.vocabulary(),
                state: self.mask.state(),
                draw,
                automaton: self.extractive.is_none().then(|| self.mask.automaton()),
                penalty: self.sampling.repetition_penalty as f32,
                window: self.sampling.repetition_window,
                written: match self.sampling.repetition_in_prompt {
                    true => self.cached.clone(),
                    false => self.cached[self.statistics.prompt_tokens..].to_vec(),
                },
            })),
        };
        let ahead = if self.extractive.is_some() { 0 } else { ahead };
        while self.choices.len() <= ahead && (self.choices.is_empty() || self.cache.len() < room) {
            // The token before this one, chosen but not read; the prompt has been read when the first one is chosen.
            if self.cache.len() < self.cached.len() + self.choices.len() {
                self.decoder.forward_chosen(chooser, &mut self.cache);
            }
            let allowed = self.extractive.as_ref().map(|mask| mask.allowed(&self.stops));
            let random = random(self.sampling.seed, self.statistics.tokens + self.choices.len());
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
        self.sampler.penalize(&mut self.logits, &self.cached, self.statistics.prompt_tokens);
        match &self.extractive {
            Some(mask) => mask.apply(&mut self.logits, &self.stops),
            None => self.mask.apply(&mut self.logits),
        }
        self.sampler.sample(&self.logits)
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

/// Takes the oldest round out of a prompt's messages: a question and, where there is one, its answer.
fn drop_oldest_round(messages: &mut Vec<Message>) -> usize {
    let earlier = 1..messages.len() - 1; // between system text and question
    let second = messages[earlier.clone()].get(1).is_some_and(|message| message.role == "assistant");
    let dropped = earlier.len().min(1 + usize::from(second));
    messages.drain(1..1 + dropped);
    dropped
}

/// Tokens that end an answer: the template's, as far as the tokenizer has them, and those that the file names. Then the
/// template's marks that are no tokens.
fn stops(template: ChatTemplate, tokenizer: &TextTokenizer) -> Result<(Vec<u32>, Vec<&'static str>), GenerateError> {
    let (marks, texts): (Vec<&str>, _) = template.stops().iter().partition(|mark| tokenizer.mark(mark).is_ok());
    let mut stops = marks.iter().map(|mark| tokenizer.mark(mark)).collect::<Result<Vec<u32>, _>>()?;
    stops.extend(tokenizer.eos());
    match stops.is_empty() {
        true => Err(GenerateError::Tokenizer("it has no token that ends an answer".to_owned())),
        false => Ok((stops, texts)),
    }
}

/// Whether the last tokens are one short run, several times over: a small model that got lost never stops by itself.
fn runs_in_a_circle(tokens: &[u32]) -> bool {
    const TIMES: usize = 4;
    const LONGEST: usize = 12;
    (1..=LONGEST).any(|period| {
        let span = period * TIMES;
        tokens.len() >= span && {
            let tail = &tokens[tokens.len() - span..];
            tail[period..] == tail[..span - period]
        }
    })
}

impl<D: Device, P: Pace> Generator for LocalGenerator<D, P> {
    type Error = GenerateError;

    fn form(&self) -> PromptForm {
        match self.is_extractive {
            true => PromptForm::OneMessage,
            false => PromptForm::Turns,
        }
    }

    fn references_read(&self) -> &[PromptReference] {
        &self.references
    }

    async fn read_ahead(&mut self, beginnings: &[Vec<Message>; 2]) -> Result<(), GenerateError> {
        let ids = self.shared_tokens(beginnings)?;
        self.read_beginning(&ids).await
    }

    async fn start(&mut self, prompt: &Prompt) -> Result<(), GenerateError> {
        self.mask.restart(prompt.references.len());
        self.extractive = match self.is_extractive {
            true => Some(ExtractiveMask::new(&prompt.references, &self.tokenizer)?),
            false => None,
        };
        self.sampler = Sampler::new(&self.sampling)?;
        let texts = self.text_stops.iter().map(|text| (*text).to_owned());
        self.stop_text = StopText::new(texts.chain(self.sampling.stop_strings.iter().cloned()));
        (self.stream, self.begun) = (TokenStream::default(), false);
        self.references.clear();
        let (ids, dropped_turns) = self.fit(prompt)?;
        self.read(&ids).await?;
        self.statistics.dropped_turns = dropped_turns;
        if !self.finished {
            self.references.clone_from(&prompt.references);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        let Some(id) = self.next_token().await? else { return Ok(self.stop_text.finish()) };
        let mut text = self.tokenizer.step(&mut self.stream, id)?.unwrap_or_default();
        if !self.begun {
            text = text.trim_start().to_owned(); // Llama 2 begins with a space, ChatGLM3 with a line
            self.begun = !text.is_empty();
        }
        text = self.stop_text.push(&text);
        self.finished |= self.stop_text.is_stopped();
        Ok(Some(text))
    }

    fn statistics(&self) -> GenerationStatistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_repeated_four_times_is_a_circle() {
        assert!(runs_in_a_circle(&[9, 1, 1, 1, 1]));
        assert!(runs_in_a_circle(&[1, 2, 3].repeat(4)));
        assert!(!runs_in_a_circle(&[1, 2, 3].repeat(3)));
        assert!(!runs_in_a_circle(&[]));
    }
}
