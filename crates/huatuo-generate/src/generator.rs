//! The generator on this machine: prompt in, whole characters out.

use std::ops::ControlFlow;

use huatuo_compute::Device;
use huatuo_core::{GenerationStatistics, Generator, Prompt};
use huatuo_fetch::clock::now_ms;

use crate::text::TokenStream;
use crate::{
    ChatTemplate, CitationMask, Decoder, ExtractiveMask, GenerateError, Gguf, GgufHeader, KvCache, Sampler, Sampling,
    TextTokenizer,
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
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    stops: Vec<u32>,
    mask: CitationMask,
    /// Whether the model may only quote.
    is_extractive: bool,
    extractive: Option<ExtractiveMask>,
    cache: KvCache<D>,
    /// Tokens whose keys and values are cached.
    cached: Vec<u32>,
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
        let stops = stops(template, &tokenizer)?;
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
            sampler: Sampler::new(sampling),
            stream: TokenStream::default(),
            cached: Vec::new(),
            begun: false,
            finished: true,
            statistics: GenerationStatistics::default(),
            decoder,
            tokenizer,
            template,
            stops,
            cache,
            sampling,
            pace,
        })
    }

    /// Chooses how tokens are sampled from the next answer on.
    pub fn set_sampling(&mut self, sampling: Sampling) {
        self.sampling = sampling;
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Tokens of a prompt under the model's chat template.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, GenerateError> {
        self.template.encode(&prompt.messages, &self.tokenizer)
    }

    /// Reads tokens, keeping the cached prefix that they share with what was read before.
    pub async fn read(&mut self, ids: &[u32]) -> Result<(), GenerateError> {
        let context = self.decoder.architecture().context;
        if ids.len() + 1 > context {
            return Err(GenerateError::ContextOverflow { tokens: ids.len(), context });
        }
        let started = now_ms();
        let shared = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let keep = shared.min(ids.len() - 1); // the last token is read anew for its scores
        self.cache.truncate(keep);
        self.cached.truncate(keep);
        self.finished = false;
        let mut rest = &ids[keep..];
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(Decoder::<D>::CHUNK));
            let logits = later.is_empty().then_some(self.logits.as_mut_slice());
            self.decoder.forward(chunk, &mut self.cache, logits);
            self.cached.extend(chunk);
            rest = later;
            if self.pace.pause().await.is_break() {
                self.finished = true;
                break;
            }
        }
        self.statistics = GenerationStatistics {
            prompt_tokens: ids.len(),
            cached_tokens: keep,
            prefill_ms: now_ms() - started,
            ..GenerationStatistics::default()
        };
        Ok(())
    }

    /// The next token, `None` at the end of the answer.
    pub async fn next_token(&mut self) -> Result<Option<u32>, GenerateError> {
        let room = self.cached.len() < self.decoder.architecture().context;
        if self.finished || !room || self.statistics.tokens >= self.sampling.max_tokens {
            return Ok(None);
        }
        let started = now_ms();
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

/// Tokens that end an answer: the template's, as far as the tokenizer has them, and those that the file names.
fn stops(template: ChatTemplate, tokenizer: &TextTokenizer) -> Result<Vec<u32>, GenerateError> {
    let mut stops: Vec<u32> = template.stops().iter().filter_map(|mark| tokenizer.mark(mark).ok()).collect();
    stops.extend(tokenizer.eos());
    match stops.is_empty() {
        true => Err(GenerateError::Tokenizer("it has no token that ends an answer".to_owned())),
        false => Ok(stops),
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

    async fn start(&mut self, prompt: &Prompt) -> Result<(), GenerateError> {
        self.mask.restart(prompt.references.len());
        self.extractive = match self.is_extractive {
            true => Some(ExtractiveMask::new(&prompt.references, &self.tokenizer)?),
            false => None,
        };
        self.sampler = Sampler::new(self.sampling);
        (self.stream, self.begun) = (TokenStream::default(), false);
        let ids = self.encode_prompt(prompt)?;
        self.read(&ids).await
    }

    async fn next(&mut self) -> Result<Option<String>, GenerateError> {
        let Some(id) = self.next_token().await? else { return Ok(None) };
        let mut text = self.tokenizer.step(&mut self.stream, id)?.unwrap_or_default();
        if !self.begun {
            text = text.trim_start().to_owned(); // Llama 2 begins with a space, ChatGLM3 with a line
            self.begun = !text.is_empty();
        }
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
