//! Choosing the next token.

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use crate::GenerateError;

/// How tokens are chosen. A temperature of 0 is greedy and deterministic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Flattens (above 1) or sharpens (below 1) the distribution; 0 takes the best token.
    pub temperature: f64,
    /// Tokens considered.
    pub top_k: usize,
    /// Probability mass considered.
    pub top_p: f64,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Most tokens of an answer.
    pub max_tokens: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 40, top_p: 0.9, seed: 0, max_tokens: 320 }
    }
}

/// A source of tokens with its own random state.
pub struct Sampler {
    /// `None` when greedy.
    processor: Option<LogitsProcessor>,
}

impl Sampler {
    /// Starts the random state from the seed.
    pub fn new(sampling: Sampling) -> Self {
        let Sampling { temperature, top_k: k, top_p: p, seed, .. } = sampling;
        let random = temperature > 0.0;
        let processor =
            random.then(|| LogitsProcessor::from_sampling(seed, CandleSampling::TopKThenTopP { k, p, temperature }));
        Self { processor }
    }

    /// The next token; of equal scores the first wins.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, GenerateError> {
        let Some(processor) = &mut self.processor else {
            let best = logits
                .iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (id, &score)| if score > best.1 { (id, score) } else { best });
            if !best.1.is_finite() {
                return Err(GenerateError::Sampling(
                    "no score is a number: the model's weights are damaged".to_owned(),
                ));
            }
            return Ok(best.0 as u32);
        };
        Tensor::from_slice(logits, logits.len(), &Device::Cpu)
            .and_then(|logits| processor.sample(&logits))
            .map_err(|error| GenerateError::Sampling(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, 1.0]).unwrap(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..Sampling::default() });
            (0..20).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
