//! The generator on this machine: prompt in, whole characters out.

use std::ops::ControlFlow;

use huatuo_compute::Device;
use huatuo_core::{GenerationStatistics, Generator, Message, Prompt, PromptForm, PromptReference};
use huatuo_fetch::clock::now_ms;

use crate::prompt_state;
use crate::stop_text::StopText;
use crate::text::TokenStream;
use crate::{
    ChatTemplate, CitationMask, Decoder, ExtractiveMask, GenerateError, Gguf, GgufHeader, KvCache, Sampler, Sampling,
    TextTokenizer,
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
    /// Tokens whose keys and values are cached.
    cached: Vec<u32>,
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

    /// Chooses how tokens are sampled from the next answer on; [`Generator::start`] refuses what is out of range.
    pub fn set_sampling(&mut self, sampling: Sampling) {
        self.sampling = sampling;
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Tokens of a prompt's messages under the model's chat template.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        self.template.encode(messages, &self.tokenizer)
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
        let keep = shared(&self.cached, ids).min(ids.len() - 1); // the last token is read anew for its scores
        self.finished = self.extend(keep, ids, true).await.is_break();
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
    async fn extend(&mut self, keep: usize, ids: &[u32], scored: bool) -> ControlFlow<()> {
        self.cache.truncate(keep);
        self.cached.truncate(keep);
        let mut rest = &ids[keep..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(Decoder::<D>::CHUNK));
            let logits = (scored && later.is_empty()).then_some(self.logits.as_mut_slice());
            self.decoder.forward(chunk, &mut self.cache, logits);
            self.cached.extend(chunk);
            rest = later;
            self.pace.pause().await?;
        }
        ControlFlow::Continue(())
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
            (self.cache, self.cached) = (cache, ids);
            return Ok(None);
        }
        self.read_beginning(&ids).await;
        let is_read = shared(&self.cached, &ids) == ids.len();
        Ok(is_read.then(|| prompt_state::save(&self.decoder, &self.cache, &ids)))
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
        self.cache.truncate(0);
        self.cached.clear();
        self.references.clear();
    }

    async fn read_beginning(&mut self, ids: &[u32]) {
        let keep = shared(&self.cached, ids);
        if keep < ids.len() {
            self.references.clear();
            let _ = self.extend(keep, ids, false).await; // the host that stopped it stops what follows, too
        }
    }

    /// The next token, `None` at the end of the answer.
    pub async fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        let room = self.cached.len() < self.decoder.architecture().context;
        if self.finished || !room || self.statistics.tokens >= self.sampling.max_tokens {
            return Ok(None);
        }
        let started = now_ms();
        self.sampler.penalize(&mut self.logits, &self.cached, self.statistics.prompt_tokens);
        match &self.extractive {
            Some(mask) => mask.apply(&mut self.logits, &self.stops),
            None => self.mask.apply(&mut self.logits),
        }
        let id = self.sampler.sample(&self.logits)?;
        if self.stops.contains(&id) {
            self.finished = true;
            return Ok(None);
        }
        match &mut self.extractive {
            Some(mask) => mask.accept(id),
            None => self.mask.accept(id),
        }
        self.decoder.forward(&[id], &mut self.cache, Some(&mut self.logits));
        self.cached.push(id);
        self.statistics.tokens += 1;
        self.statistics.decode_ms += now_ms() - started;
        let answer = &self.cached[self.statistics.prompt_tokens..];
        self.finished = self.pace.pause().await.is_break() || runs_in_a_circle(answer);
        Ok(Some(id))
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
        self.read_beginning(&ids).await;
        Ok(())
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
