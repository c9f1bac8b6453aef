//! What a caller may choose about how an answer is written.

use std::fmt;
use std::ops::RangeInclusive;

use crate::GenerateError;

/// How tokens are chosen, and when an answer ends. A temperature of 0 is greedy and deterministic.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Flattens (above 1) or sharpens (below 1) the distribution; 0 takes the best token. 0 to 100.
    pub temperature: f64,
    /// The likeliest tokens considered; 0 considers all.
    pub top_k: usize,
    /// Probability mass considered: the likeliest tokens that reach it together. 0 to 1, 1 considers all.
    pub top_p: f64,
    /// Probability a token must have, as a share of the likeliest one's. 0 to 1, 0 considers all. (Nguyen et al., "Turning
    /// Up the Heat: Min-p Sampling", 2024.)
    pub min_p: f64,
    /// What the positive scores of tokens that were written before are divided by, and the negative ones multiplied by,
    /// greedy or not. 0.01 to 100, 1 changes nothing. (Keskar et al., "CTRL", 2019, section 4.1.)
    pub repetition_penalty: f64,
    /// How many of the last tokens count as written before.
    pub repetition_window: usize,
    /// Whether the window reaches from the answer back into the prompt. An answer has to repeat what its references say,
    /// so it doesn't unless it is asked to.
    pub repetition_in_prompt: bool,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Texts that end the answer; neither they nor anything behind them is shown.
    pub stop_strings: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            repetition_in_prompt: false,
            seed: 0,
            max_tokens: 320,
            stop_strings: Vec::new(),
        }
    }
}

impl Sampling {
    /// Refuses what is out of range, naming it.
    pub fn check(&self) -> Result<(), GenerateError> {
        within("temperature", self.temperature, 0.0..=100.0)?;
        within("top-p", self.top_p, 0.0..=1.0)?;
        within("min-p", self.min_p, 0.0..=1.0)?;
        within("repetition penalty", self.repetition_penalty, 0.01..=100.0)?;
        match self.stop_strings.iter().any(String::is_empty) {
            true => Err(bad("stop string", "empty", "a text".to_owned())),
            false => Ok(()),
        }
    }
}

fn within(name: &'static str, value: f64, range: RangeInclusive<f64>) -> Result<(), GenerateError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(bad(name, value, format!("a number from {} to {}", range.start(), range.end()))),
    }
}

fn bad(name: &'static str, value: impl fmt::Display, expected: String) -> GenerateError {
    GenerateError::BadSampling { name, value: value.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sampling: Sampling) -> String {
        sampling.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_in_range() {
        Sampling::default().check().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_range() {
        let defaults = Sampling::default;
        assert_eq!(
            refusal(Sampling { temperature: -0.5, ..defaults() }),
            "the temperature is -0.5, expected a number from 0 to 100"
        );
        assert_eq!(refusal(Sampling { top_p: 1.5, ..defaults() }), "the top-p is 1.5, expected a number from 0 to 1");
        assert_eq!(
            refusal(Sampling { min_p: f64::NAN, ..defaults() }),
            "the min-p is NaN, expected a number from 0 to 1"
        );
        assert_eq!(
            refusal(Sampling { repetition_penalty: 0.0, ..defaults() }),
            "the repetition penalty is 0, expected a number from 0.01 to 100"
        );
        assert_eq!(
            refusal(Sampling { stop_strings: vec![String::new()], ..defaults() }),
            "the stop string is empty, expected a text"
        );
    }
}
