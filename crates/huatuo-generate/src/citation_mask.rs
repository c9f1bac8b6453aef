//! Constrained decoding: `[` may only begin the number of a reference that was given.

use std::sync::Arc;

use huatuo_compute::Automaton;

use crate::TextTokenizer;

/// What of a vocabulary a citation mark can be made of.
#[derive(Default)]
pub struct MarkTokens {
    tokens: Vec<String>,
    /// Tokens that contain a bracket: the only ones to check outside a mark.
    brackets: Vec<u32>,
    /// Those that something inside a mark may begin with, and those that contain a bracket; any other leaves a text as it
    /// is and may not stand in a mark.
    marks: Vec<u32>,
}

impl MarkTokens {
    /// Looks through a vocabulary of `size` tokens.
    pub fn new(tokenizer: &TextTokenizer, size: usize) -> Self {
        Self::of_tokens((0..size as u32).map(|id| tokenizer.raw_token(id).unwrap_or_default()).collect())
    }

    fn of_tokens(tokens: Vec<String>) -> Self {
        let those = |is: &dyn Fn(&str) -> bool| {
            (0..tokens.len() as u32).filter(|id| is(&tokens[*id as usize])).collect::<Vec<u32>>()
        };
        let brackets = those(&|token| token.contains('['));
        let marks = those(&|token| token.contains('[') || token.starts_with(|c: char| c == ']' || c.is_ascii_digit()));
        Self { tokens, brackets, marks }
    }
}

/// Which tokens may follow, so that every mark in the answer is `[1]` … `[k]`.
pub struct CitationMask {
    vocabulary: Arc<MarkTokens>,
    references: usize,
    /// Digits after an open bracket, `None` outside a mark.
    open: Option<String>,
}

impl CitationMask {
    /// Begins an answer that may cite `[1]` to `[references]`.
    pub fn new(vocabulary: &Arc<MarkTokens>, references: usize) -> Self {
        Self { vocabulary: Arc::clone(vocabulary), references, open: None }
    }

    /// Makes forbidden tokens impossible.
    pub fn apply(&self, logits: &mut [f32]) {
        let forbid = |logits: &mut [f32], id: usize| {
            if self.follow(&self.vocabulary.tokens[id]).is_none() {
                logits[id] = f32::NEG_INFINITY;
            }
        };
        if self.open.is_none() {
            self.vocabulary.brackets.iter().for_each(|&id| forbid(logits, id as usize));
        } else {
            (0..self.vocabulary.tokens.len().min(logits.len())).for_each(|id| forbid(logits, id));
        }
    }

    /// Takes note of the chosen token.
    pub fn accept(&mut self, id: u32) {
        if let Some(state) = self.vocabulary.tokens.get(id as usize).and_then(|token| self.follow(token)) {
            self.open = state;
        }
    }

    /// State of [`Self::automaton`] that stands for what was written.
    pub fn state(&self) -> u32 {
        match &self.open {
            None => 0,
            Some(digits) => digits.parse().map_or(1, |number: u32| number + 1),
        }
    }

    /// The same as an automaton, from the state outside a mark on: state 0 is outside, 1 behind the bracket, then come the
    /// numbers of the references.
    pub fn automaton(&self) -> Automaton {
        let states: Vec<Option<String>> = [None, Some(String::new())]
            .into_iter()
            .chain((1..=self.references).map(|number| Some(number.to_string())))
            .collect();
        let place = |state: Option<String>| states.iter().position(|known| *known == state).unwrap_or(0) as u32;
        let behind = |id: u32| {
            let follow = |state: &Option<String>| {
                Self::follow_from(state.clone(), &self.vocabulary.tokens[id as usize], self.references)
            };
            states.iter().map(|state| follow(state).map_or(Automaton::FORBIDDEN, place)).collect()
        };
        let default: Vec<u32> = (0..states.len()).map(|at| if at == 0 { 0 } else { Automaton::FORBIDDEN }).collect();
        Automaton::new(self.vocabulary.tokens.len(), states.len(), &default, &self.vocabulary.marks, behind)
    }

    /// The state after a token; `None` when the token would write a mark that isn't a reference's.
    fn follow(&self, token: &str) -> Option<Option<String>> {
        Self::follow_from(self.open.clone(), token, self.references)
    }

    fn follow_from(mut state: Option<String>, token: &str, references: usize) -> Option<Option<String>> {
        let is_reference = |digits: &str| digits.parse().is_ok_and(|n: usize| (1..=references).contains(&n));
        if token.is_empty() && state.is_some() {
            return None;
        }
        for c in token.chars() {
            state = match (state, c) {
                (None, '[') if references > 0 => Some(String::new()),
                (None, '[') => return None,
                (None, _) => None,
                (Some(digits), ']') if is_reference(&digits) => None,
                (Some(digits), digit) if digit.is_ascii_digit() && is_reference(&format!("{digits}{digit}")) => {
                    Some(format!("{digits}{digit}"))
                }
                _ => return None,
            };
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(references: usize) -> CitationMask {
        let tokens: Vec<String> =
            ["好", "[", "1", "2", "9", "]", "[1]", "[7]", "]。", "1]", "", "。["].map(str::to_owned).to_vec();
        CitationMask::new(&Arc::new(MarkTokens::of_tokens(tokens)), references)
    }

    fn allowed(mask: &CitationMask) -> Vec<&str> {
        let mut logits = vec![0.0; mask.vocabulary.tokens.len()];
        mask.apply(&mut logits);
        (0..logits.len()).filter(|i| logits[*i] == 0.0).map(|i| mask.vocabulary.tokens[i].as_str()).collect()
    }

    #[test]
    fn outside_a_mark_only_wrong_marks_are_forbidden() {
        assert_eq!(allowed(&mask(2)), ["好", "[", "1", "2", "9", "]", "[1]", "]。", "1]", "", "。["]);
    }

    #[test]
    fn inside_a_mark_only_given_numbers_and_the_end_are_allowed() {
        let mut mask = mask(12);
        mask.accept(1);
        assert_eq!(allowed(&mask), ["1", "2", "9", "1]"]);
        mask.accept(2);
        assert_eq!(allowed(&mask), ["1", "2", "]", "]。", "1]"]);
        mask.accept(5);
        assert!(allowed(&mask).contains(&"好"));
    }

    #[test]
    fn without_references_nothing_is_cited() {
        assert!(allowed(&mask(0)).iter().all(|token| !token.contains('[')));
    }

    #[test]
    fn the_automaton_allows_what_the_mask_allows() {
        for references in [0, 2, 12] {
            let (mut mask, automaton) = (mask(references), mask(references).automaton());
            let mut state = 0;
            // Into a mark, a number, out of it, a whole mark, and text.
            for token in [0, 1, 2, 5, 6, 0].into_iter().filter(|_| references > 0) {
                let mut logits = vec![0.0; mask.vocabulary.tokens.len()];
                mask.apply(&mut logits);
                for (id, score) in logits.iter().enumerate() {
                    let is_allowed = automaton.follow(state, id as u32) != Automaton::FORBIDDEN;
                    assert_eq!(is_allowed, *score == 0.0, "{:?} of {references}", mask.vocabulary.tokens[id]);
                }
                state = automaton.follow(state, token);
                mask.accept(token);
                assert_eq!(state, mask.state());
            }
            assert_eq!(automaton.follow(0, 1) == Automaton::FORBIDDEN, references == 0);
        }
    }
}
