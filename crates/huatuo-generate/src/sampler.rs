//! Choosing the next token.

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use crate::{GenerateError, Sampling};

/// A source of tokens with its own random state.
pub struct Sampler {
    sampling: Sampling,
    /// Draws from what the filters leave.
    draw: LogitsProcessor,
}

impl Sampler {
    /// Starts the random state from the seed; refuses what is out of range.
    pub fn new(sampling: &Sampling) -> Result<Self, GenerateError> {
        sampling.check()?;
        let draw = LogitsProcessor::from_sampling(sampling.seed, CandleSampling::All { temperature: 1.0 });
        Ok(Self { sampling: sampling.clone(), draw })
    }

    /// Makes tokens that were written before less likely (more, with a penalty below 1), each once however often it was
    /// written. `tokens` are those of the prompt, `prompt` of them, and then the answer's.
    pub fn penalize(&self, logits: &mut [f32], tokens: &[u32], prompt: usize) {
        let Sampling { repetition_penalty: penalty, repetition_window, repetition_in_prompt, .. } = self.sampling;
        if penalty == 1.0 {
            return;
        }
        let written = if repetition_in_prompt { tokens } else { &tokens[prompt.min(tokens.len())..] };
        let mut recent = written[written.len().saturating_sub(repetition_window)..].to_vec();
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            if let Some(score) = logits.get_mut(id as usize) {
                let before = f64::from(*score);
                *score = (if before < 0.0 { before * penalty } else { before / penalty }) as f32;
            }
        }
    }

    /// The next token; of equal scores the first wins.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, GenerateError> {
        if self.sampling.temperature == 0.0 {
            return best(logits).map(|(id, _)| id);
        }
        let kept = self.distribution(logits)?;
        let scores: Vec<f32> = kept.iter().map(|(_, probability)| probability.ln()).collect();
        let place = Tensor::from_slice(&scores, scores.len(), &Device::Cpu)
            .and_then(|scores| self.draw.sample(&scores))
            .map_err(|error| GenerateError::Sampling(error.to_string()))?;
        Ok(kept[place as usize].0)
    }

    /// The tokens that may come next with their probabilities, likeliest first: temperature, then top-k, then top-p, then
    /// min-p, each on the probabilities that the one before leaves, as in `transformers`. (llama.cpp's order of the three
    /// filters is the same; it applies the temperature behind them.)
    pub fn distribution(&self, logits: &[f32]) -> Result<Vec<(u32, f32)>, GenerateError> {
        let (first, highest) = best(logits)?;
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        if temperature == 0.0 {
            return Ok(vec![(first, 1.0)]);
        }
        // Relative to the highest score, so that no temperature, however low, gives an infinite number.
        let mut kept: Vec<(u32, f64)> = (logits.iter().enumerate())
            .filter(|(_, score)| **score > f32::NEG_INFINITY)
            .map(|(id, score)| (id as u32, ((f64::from(*score) - f64::from(highest)) / temperature).exp()))
            .collect();
        keep_likeliest(&mut kept, top_k);
        keep_mass(&mut kept, top_p);
        // The first one's weight is 1, so a weight is the share of the likeliest token's probability.
        kept.retain(|(_, weight)| *weight >= min_p);
        let sum: f64 = kept.iter().map(|(_, weight)| weight).sum();
        Ok(kept.into_iter().map(|(id, weight)| (id, (weight / sum) as f32)).collect())
    }
}

/// A number from 0 to 1 for each token of an answer (SplitMix64, Steele et al. 2014): the same for the same seed and place, so
/// that tokens can be drawn again.
pub(crate) fn random(seed: u64, place: usize) -> f32 {
    let mut bits = seed.wrapping_add((place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

/// The first of the highest scores.
fn best(logits: &[f32]) -> Result<(u32, f32), GenerateError> {
    let best = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (id, &score)| if score > best.1 { (id, score) } else { best });
    match best.1.is_finite() {
        true => Ok((best.0 as u32, best.1)),
        false => Err(GenerateError::Sampling("no score is a number: the model's weights are damaged".to_owned())),
    }
}

/// Sorts by weight, of equal ones the first token first, and keeps `count`; 0 keeps all.
fn keep_likeliest(tokens: &mut Vec<(u32, f64)>, count: usize) {
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if (1..tokens.len()).contains(&count) {
        tokens.select_nth_unstable_by(count, order); // a vocabulary need not be sorted for forty of its tokens
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(order);
}

/// Keeps the first tokens that have this share of the weight together, at least one.
fn keep_mass(tokens: &mut Vec<(u32, f64)>, share: f64) {
    if share >= 1.0 {
        return;
    }
    let wanted = share * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let reaches = |(_, weight): &(u32, f64)| {
        sum += weight;
        sum >= wanted
    };
    let last = tokens.iter().position(reaches);
    tokens.truncate(last.map_or(tokens.len(), |last| last + 1));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Considers all tokens.
    fn open() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, ..Sampling::default() }
    }

    fn distribution(sampling: &Sampling, logits: &[f32]) -> Vec<(u32, f32)> {
        Sampler::new(sampling).unwrap().distribution(logits).unwrap()
    }

    fn kept(sampling: &Sampling, logits: &[f32]) -> Vec<u32> {
        let mut ids: Vec<u32> = distribution(sampling, logits).into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Softmax by its definition.
    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|score| (f64::from(*score) / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }

    fn ids(keep: impl Fn(usize) -> bool, count: usize) -> Vec<u32> {
        (0..count).filter(|id| keep(*id)).map(|id| id as u32).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut sampler = Sampler::new(&Sampling::default()).unwrap();
        assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, 1.0]).unwrap(), 1);
        assert_eq!(sampler.distribution(&[0.0, 2.0, 2.0, 1.0]).unwrap(), [(1, 1.0)]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(&Sampling { temperature: 1.0, seed, ..Sampling::default() }).unwrap();
            (0..20).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.0, 1.0, f32::NEG_INFINITY, 2.0];
        let mut sampler = Sampler::new(&open()).unwrap();
        let mut counts = [0.0; 4];
        const DRAWS: usize = 20_000;
        for _ in 0..DRAWS {
            counts[sampler.sample(&logits).unwrap() as usize] += 1.0 / DRAWS as f64;
        }
        for (share, probability) in counts.iter().zip(softmax(&logits, 1.0)) {
            assert!((share - probability).abs() < 0.015, "{counts:?}"); // four standard deviations
        }
    }

    #[test]
    fn a_forbidden_token_is_never_considered() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::NAN];
        assert_eq!(distribution(&open(), &logits), [(1, 1.0)]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error() {
        for sampling in [open(), Sampling::default()] {
            let mut sampler = Sampler::new(&sampling).unwrap();
            for logits in [[f32::NAN; 3], [f32::NEG_INFINITY; 3], [0.0, f32::INFINITY, 0.0]] {
                assert!(matches!(sampler.sample(&logits), Err(GenerateError::Sampling(_))), "{logits:?}");
            }
        }
    }

    #[test]
    fn the_lowest_temperature_is_greedy() {
        let sampling = Sampling { temperature: f64::MIN_POSITIVE, ..open() };
        assert_eq!(distribution(&sampling, &[3.0, 5.0, 4.9])[0], (1, 1.0));
    }

    #[test]
    fn a_sampler_out_of_range_is_refused() {
        let refused = Sampler::new(&Sampling { min_p: 2.0, ..Sampling::default() });
        assert!(matches!(refused, Err(GenerateError::BadSampling { name: "min-p", .. })));
    }

    #[test]
    fn the_penalty_meets_the_last_tokens_of_the_answer_once_each() {
        let sampling = Sampling { repetition_penalty: 2.0, repetition_window: 3, ..Sampling::default() };
        let penalized = |sampling: &Sampling, tokens: &[u32], prompt| {
            let mut logits = vec![4.0, -4.0, 4.0, f32::NEG_INFINITY, 4.0];
            Sampler::new(sampling).unwrap().penalize(&mut logits, tokens, prompt);
            logits
        };
        let prompt_and_answer = [0, 2, 4, 1, 1, 3, 99];
        const NEVER: f32 = f32::NEG_INFINITY;
        assert_eq!(penalized(&sampling, &prompt_and_answer, 2), [4.0, -8.0, 4.0, NEVER, 4.0]);
        let wider = Sampling { repetition_window: 100, ..sampling.clone() };
        assert_eq!(penalized(&wider, &prompt_and_answer, 2), [4.0, -8.0, 4.0, NEVER, 2.0]);
        let with_prompt = Sampling { repetition_window: 6, repetition_in_prompt: true, ..sampling.clone() };
        assert_eq!(penalized(&with_prompt, &prompt_and_answer, 2), [4.0, -8.0, 2.0, NEVER, 2.0]);
        let none = Sampling { repetition_window: 0, ..sampling };
        assert_eq!(penalized(&none, &prompt_and_answer, 2), [4.0, -4.0, 4.0, NEVER, 4.0]);
    }

    proptest! {
        #[test]
        fn min_p_keeps_exactly_the_tokens_of_that_share_of_the_highest_probability(
            logits in proptest::collection::vec(-20.0f32..20.0, 1..80), min_p in 0.0..=1.0f64, temperature in 0.1..5.0f64,
        ) {
            let probabilities = softmax(&logits, temperature);
            let highest = probabilities.iter().copied().fold(0.0, f64::max);
            let sampling = Sampling { min_p, temperature, ..open() };
            prop_assume!(probabilities.iter().all(|p| (p / highest - min_p).abs() > 1e-9 || *p == highest));
            let expected = ids(|id| probabilities[id] >= min_p * highest, logits.len());
            prop_assert_eq!(kept(&sampling, &logits), expected);
        }

        #[test]
        fn top_k_keeps_those_that_fewer_than_k_are_likelier_than(
            logits in proptest::collection::hash_set(-20_000i32..20_000, 1..80), top_k in 0..100usize,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|score| score as f32 / 1000.0).collect();
            let likelier = |id: usize| logits.iter().filter(|score| **score > logits[id]).count();
            let expected = ids(|id| top_k == 0 || likelier(id) < top_k, logits.len());
            prop_assert_eq!(kept(&Sampling { top_k, ..open() }, &logits), expected);
        }

        #[test]
        fn top_p_keeps_those_that_the_likelier_ones_leave_mass_for(
            logits in proptest::collection::hash_set(-5_000i32..5_000, 1..80), top_p in 0.0..=1.0f64,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|score| score as f32 / 1000.0).collect();
            let probabilities = softmax(&logits, 1.0);
            let before = |id: usize| probabilities.iter().filter(|p| **p > probabilities[id]).sum::<f64>();
            prop_assume!((0..logits.len()).all(|id| (before(id) - top_p).abs() > 1e-9));
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            let expected = ids(|id| id == best || before(id) < top_p, logits.len());
            prop_assert_eq!(kept(&Sampling { top_p, ..open() }, &logits), expected);
        }

        #[test]
        fn what_is_kept_has_probabilities_in_proportion_and_one_in_sum(
            logits in proptest::collection::vec(-20.0f32..20.0, 1..80),
            top_k in 0..100usize, top_p in 0.0..=1.0f64, min_p in 0.0..=1.0f64,
        ) {
            let kept = distribution(&Sampling { top_k, top_p, min_p, ..open() }, &logits);
            prop_assert!(!kept.is_empty());
            prop_assert!((kept.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5);
            let probabilities = softmax(&logits, 1.0);
            let scale = f64::from(kept[0].1) / probabilities[kept[0].0 as usize];
            for (id, probability) in kept {
                prop_assert!((f64::from(probability) - probabilities[id as usize] * scale).abs() < 1e-6);
            }
        }
    }
}
