//! An answer on its way: what may be written next, and what of it may be shown.

use huatuo_core::PromptReference;

use crate::stop_text::StopText;
use crate::text::TokenStream;
use crate::{CitationMask, ExtractiveMask, GenerateError, Language, Sampler, Sampling};

/// The state of one answer; what the network makes of it is not its matter.
pub struct Writing {
    sampling: Sampling,
    sampler: Sampler,
    bounds: Bounds,
    stop_text: StopText,
    stream: TokenStream,
    /// Whether anything was shown yet.
    begun: bool,
}

/// What an answer may say.
pub(crate) enum Bounds {
    /// Anything.
    Free,
    /// Citations of references that were given.
    Citing(CitationMask),
    /// Sentences of references.
    Quoting(ExtractiveMask),
}

impl Writing {
    /// Begins an answer from references: no other number may be cited, and an extractive model may only quote them.
    pub fn grounded(
        language: &Language,
        sampling: &Sampling,
        references: &[PromptReference],
    ) -> Result<Self, GenerateError> {
        let bounds = match language.is_extractive() {
            true => Bounds::Quoting(ExtractiveMask::new(references, language.tokenizer())?),
            false => Bounds::Citing(CitationMask::new(language.marks(), references.len())),
        };
        Self::new(language, sampling, bounds)
    }

    /// Begins a text that may say anything.
    pub fn free(language: &Language, sampling: &Sampling) -> Result<Self, GenerateError> {
        Self::new(language, sampling, Bounds::Free)
    }

    fn new(language: &Language, sampling: &Sampling, bounds: Bounds) -> Result<Self, GenerateError> {
        let marks = language.text_stops().iter().map(|text| (*text).to_owned());
        Ok(Self {
            sampler: Sampler::new(sampling)?,
            stop_text: StopText::new(marks.chain(sampling.stop_strings.iter().cloned())),
            sampling: sampling.clone(),
            bounds,
            stream: TokenStream::default(),
            begun: false,
        })
    }

    /// How tokens are sampled.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Whether the answer keeps to references.
    pub fn is_grounded(&self) -> bool {
        !matches!(self.bounds, Bounds::Free)
    }

    /// The next token by the network's scores, which are changed. `tokens` are those of the prompt, `prompt` of them, and then the
    /// answer's.
    pub fn choose(
        &mut self,
        language: &Language,
        logits: &mut [f32],
        tokens: &[u32],
        prompt: usize,
    ) -> Result<u32, GenerateError> {
        self.sampler.penalize(logits, tokens, prompt);
        match &self.bounds {
            Bounds::Free => {}
            Bounds::Citing(mask) => mask.apply(logits),
            Bounds::Quoting(mask) => mask.apply(logits, language.stops()),
        }
        self.sampler.sample(logits)
    }

    /// Takes note of a chosen token that does not end the answer.
    pub fn accept(&mut self, id: u32) {
        match &mut self.bounds {
            Bounds::Free => {}
            Bounds::Citing(mask) => mask.accept(id),
            Bounds::Quoting(mask) => mask.accept(id),
        }
    }

    /// Text that may be shown once a token was written.
    pub fn show(&mut self, language: &Language, id: u32) -> Result<String, GenerateError> {
        let mut text = language.tokenizer().step(&mut self.stream, id)?.unwrap_or_default();
        if !self.begun {
            text = text.trim_start().to_owned(); // Llama 2 begins with a space, ChatGLM3 with a line
            self.begun = !text.is_empty();
        }
        Ok(self.stop_text.push(&text))
    }

    /// Whether a stop text was found.
    pub fn is_stopped(&self) -> bool {
        self.stop_text.is_stopped()
    }

    /// What was held back, at the end of an answer that no stop text ended.
    pub fn finish(&mut self) -> Option<String> {
        self.stop_text.finish()
    }
}

/// Whether the last tokens are one short run, several times over: a small model that got lost never stops by itself.
pub fn runs_in_a_circle(tokens: &[u32]) -> bool {
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
