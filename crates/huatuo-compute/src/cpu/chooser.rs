//! Choosing the best token.

use std::collections::VecDeque;

use crate::{Automaton, ChoiceRule};

/// What the next choice depends on.
pub struct CpuChooser {
    rule: ChoiceRule,
    state: u32,
    recent: VecDeque<u32>,
    /// The last choice.
    pub(super) token: u32,
}

impl CpuChooser {
    pub(super) fn new(rule: ChoiceRule) -> Self {
        let recent = rule.written.iter().copied().collect();
        let mut chooser = Self { state: rule.state, rule, recent, token: 0 };
        chooser.cut();
        chooser
    }

    fn cut(&mut self) {
        while self.recent.len() > self.rule.window {
            self.recent.pop_front();
        }
    }

    /// The best token; among `allowed` ones alone, each with what is added to its score, where they are given. `None` where
    /// no score is a number.
    pub(super) fn choose(&mut self, scores: &mut [f32], allowed: Option<&[(u32, f32)]>, random: f32) -> Option<u32> {
        self.penalize(scores);
        let best = |best: (Option<u32>, f32), (id, score): (u32, f32)| {
            if score > best.1 { (Some(id), score) } else { best }
        };
        let none = (None, f32::NEG_INFINITY);
        let (token, score) = match (allowed, &self.rule.automaton) {
            (Some(allowed), _) => {
                let score = |&(id, more): &(u32, f32)| Some((id, scores.get(id as usize)? + more));
                allowed.iter().filter_map(score).fold(none, best)
            }
            (None, automaton) => {
                let may = |id: u32| automaton.as_ref().is_none_or(|a| a.follow(self.state, id) != Automaton::FORBIDDEN);
                let scores = scores.iter().enumerate().map(|(id, score)| (id as u32, *score));
                let mut scores = scores.filter(|(id, score)| may(*id) && *score > f32::NEG_INFINITY);
                match self.rule.draw {
                    None => scores.fold(none, best),
                    Some(draw) => {
                        let mut likeliest: Vec<(u32, f32)> = scores.by_ref().collect();
                        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                        likeliest.truncate(draw.top_k);
                        let scores: Vec<f32> = likeliest.iter().map(|(_, score)| *score).collect();
                        match likeliest.get(draw.place(&scores, random)) {
                            // One that is no number spoils all.
                            Some((id, score)) if scores[0].is_finite() => (Some(*id), *score),
                            _ => none,
                        }
                    }
                }
            }
        };
        let token = token.filter(|_| score.is_finite())?;
        if let (None, Some(automaton)) = (allowed, &self.rule.automaton) {
            self.state = automaton.follow(self.state, token);
        }
        self.recent.push_back(token);
        self.cut();
        self.token = token;
        Some(token)
    }

    fn penalize(&self, scores: &mut [f32]) {
        let penalty = self.rule.penalty;
        if penalty == 1.0 {
            return;
        }
        for (i, id) in self.recent.iter().enumerate() {
            if self.recent.iter().skip(i + 1).any(|later| later == id) {
                continue; // once, however often it was written
            }
            if let Some(score) = scores.get_mut(*id as usize) {
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
    }
}
