//! How the next token is chosen where the scores are.

use std::collections::HashMap;

/// Which tokens may follow which: a deterministic automaton over classes of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// Class of each token.
    classes: Vec<u16>,
    /// Classes of tokens.
    class_count: usize,
    /// State behind a token of a class, `[states, classes]`; [`Automaton::FORBIDDEN`] where it may not follow.
    next: Vec<u32>,
}

impl Automaton {
    /// In place of a state: the token may not follow.
    pub const FORBIDDEN: u32 = u32::MAX;

    /// An automaton. `transitions` gives the state behind a token for each of `states` states, and
    /// is asked only for the `tokens` named; all others do as `default` says.
    pub fn new(
        vocabulary: usize,
        states: usize,
        default: &[u32],
        tokens: &[u32],
        transitions: impl Fn(u32) -> Vec<u32>,
    ) -> Self {
        let mut known = HashMap::from([(default.to_vec(), 0u16)]);
        let mut columns = vec![default.to_vec()];
        let mut classes = vec![0; vocabulary];
        for &token in tokens {
            let column = transitions(token);
            let class = *known.entry(column).or_insert_with_key(|column| {
                columns.push(column.clone());
                (columns.len() - 1) as u16
            });
            if let Some(place) = classes.get_mut(token as usize) {
                *place = class;
            }
        }
        let next = (0..states).flat_map(|state| columns.iter().map(move |column| column[state])).collect();
        Self { classes, class_count: columns.len(), next }
    }

    /// Classes of tokens.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    pub(crate) fn classes(&self) -> &[u16] {
        &self.classes
    }

    pub(crate) fn transitions(&self) -> &[u32] {
        &self.next
    }

    /// The state behind a token.
    pub fn follow(&self, state: u32, token: u32) -> u32 {
        let class = self.classes.get(token as usize).copied().unwrap_or(0);
        self.next.get(state as usize * self.class_count() + usize::from(class)).copied().unwrap_or(Self::FORBIDDEN)
    }
}

/// How a token is drawn among the likeliest: temperature, then top-k, top-p and min-p, each on what the one before leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Above 0.
    pub temperature: f32,
    /// The likeliest tokens considered, 1 to [`Draw::MOST`].
    pub top_k: usize,
    /// Probability mass considered.
    pub top_p: f32,
    /// Probability a token must have, as a share of the likeliest one's.
    pub min_p: f32,
}

impl Draw {
    /// Most tokens that are considered.
    pub const MOST: usize = 64;
    /// Most tokens of a vocabulary that a graphics processor draws from: `shader/choose_drawn.wgsl`.
    pub const LARGEST_VOCABULARY: usize = 512 * 1024;

    /// The place of the token that a number from 0 to 1 draws, in `scores` of the likeliest tokens, best first.
    pub(crate) fn place(&self, scores: &[f32], random: f32) -> usize {
        let best = scores.first().copied().unwrap_or(0.0);
        let weights: Vec<f32> = scores.iter().map(|score| ((score - best) / self.temperature).exp()).collect();
        let mass = self.top_p * weights.iter().sum::<f32>();
        let (mut kept, mut sum) = (0, 0.0);
        for weight in &weights {
            if kept > 0 && (sum >= mass || *weight < self.min_p) {
                break;
            }
            (kept, sum) = (kept + 1, sum + weight);
        }
        let mut left = random * sum;
        for (place, weight) in weights[..kept].iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return place;
            }
        }
        kept.saturating_sub(1)
    }
}

/// How tokens are chosen for one answer: the best score wins, of equal ones the first token; or one is drawn.
#[derive(Clone, Debug)]
pub struct ChoiceRule {
    /// Tokens that scores are of.
    pub vocabulary: usize,
    /// Which tokens may follow; all where there is none.
    pub automaton: Option<Automaton>,
    /// The automaton's state.
    pub state: u32,
    /// How a token is drawn; the best one is taken where it is absent.
    pub draw: Option<Draw>,
    /// What positive scores of tokens that were written before are divided by, and negative ones multiplied by.
    pub penalty: f32,
    /// How many of the last tokens count as written before.
    pub window: usize,
    /// Those that count already.
    pub written: Vec<u32>,
}
