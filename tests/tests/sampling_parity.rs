//! Penalty and filters leave the distribution that transformers' logits processors leave.
//! Golden file: `python3 tests/golden/sampling.py`.

use std::collections::BTreeMap;

use huatuo_generate::{Sampler, Sampling};
use huatuo_tests::root;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    logits: Vec<f32>,
    /// Tokens that were written before.
    written: Vec<u32>,
    /// Of the tokens that are left.
    probabilities: BTreeMap<u32, f32>,
}

#[derive(Deserialize)]
struct Settings {
    temperature: f64,
    repetition_penalty: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
}

impl Settings {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            ..Sampling::default()
        }
    }
}

#[test]
fn the_distribution_is_that_of_transformers() {
    /// Single precision, in which transformers computes.
    const TOLERANCE: f32 = 2e-6;
    let golden: Vec<Golden> =
        serde_json::from_slice(&std::fs::read(root().join("tests/golden/sampling.json")).unwrap()).unwrap();
    assert!(golden.len() >= 9);
    for (case, Golden { settings, mut logits, written, probabilities }) in golden.into_iter().enumerate() {
        let sampler = Sampler::new(&settings.sampling()).unwrap();
        sampler.penalize(&mut logits, &written, 0);
        let found: BTreeMap<u32, f32> = sampler.distribution(&logits).unwrap().into_iter().collect();
        assert!(found.keys().eq(probabilities.keys()), "case {case}: {found:?} instead of {probabilities:?}");
        for (id, expected) in probabilities {
            assert!((found[&id] - expected).abs() < TOLERANCE, "case {case}, token {id}: {} {expected}", found[&id]);
        }
    }
}
