//! Extractive answering: every sentence of the answer is a sentence of a reference, word for word, closed with that
//! reference's number. The model only chooses the reference, which of its sentences, in which order, and when to stop.
//! All sentences come from one reference: advice for another disease must not slip in behind the right one.
//!
//! It is for models too small to be trusted with wording (a GGUF file says so with `huatuo.answering = "extractive"`):
//! one wrong token in a copied sentence could turn one drug into another, and here it can't be written.

use huatuo_core::{PromptReference, split_sentences};

use crate::{GenerateError, TextTokenizer};

/// Sentences of one reference that are offered; more are of no use in one answer.
const MAX_SENTENCES: usize = 12;
/// How strongly the retriever's score speaks for a reference: one that is lower by 0.1 costs six nats. With one nat, 3
/// of 24 held-out questions were answered from a worse reference than the first; with three, still 2.
const RETRIEVAL_PRIOR: f32 = 60.0;

/// Which tokens may follow.
#[derive(Debug)]
pub struct ExtractiveMask {
    sentences: Vec<Sentence>,
    /// The full stop that closes the answer, then [`STOP`].
    close: Vec<u32>,
    /// What may be written from the last sentence boundary on, as far as it fits what was written since.
    live: Vec<Alternative>,
    /// Tokens written since the last boundary.
    at: usize,
}

#[derive(Debug)]
struct Sentence {
    /// With its mark, at the beginning of the answer and behind another sentence, whose full stop comes first.
    first: Vec<u32>,
    later: Vec<u32>,
    reference: usize,
    prior: f32,
    used: bool,
}

#[derive(Debug)]
struct Alternative {
    tokens: Vec<u32>,
    prior: f32,
    /// `None` closes the answer.
    sentence: Option<usize>,
}

impl ExtractiveMask {
    /// Offers the sentences of the references.
    pub fn new(references: &[PromptReference], tokenizer: &TextTokenizer) -> Result<Self, GenerateError> {
        let best = references.iter().map(|reference| reference.score).fold(f32::NEG_INFINITY, f32::max);
        let mut sentences: Vec<Sentence> = Vec::new();
        let mut known: Vec<&str> = Vec::new();
        for (n, reference) in references.iter().enumerate() {
            for sentence in split_sentences(&reference.answer).into_iter().take(MAX_SENTENCES) {
                let text = sentence.trim_end_matches(['。', '！', '？', '!', '?', '；']).trim();
                if text.is_empty() || known.contains(&text) {
                    continue; // the first reference that says it is cited
                }
                known.push(text);
                let marked = format!("{text}[{}]", n + 1);
                let (first, later) = (tokenizer.encode(&marked)?, tokenizer.encode(&format!("。{marked}"))?);
                sentences.push(Sentence {
                    first,
                    later,
                    reference: n,
                    prior: RETRIEVAL_PRIOR * (reference.score - best),
                    used: false,
                });
            }
        }
        let close = [tokenizer.encode("。")?, vec![STOP]].concat();
        let mut mask = Self { sentences, close, live: Vec::new(), at: 0 };
        mask.begin_sentence();
        Ok(mask)
    }

    /// The tokens that may follow, each with what is added to its score: where sentences part, each way is weighed by its
    /// best reference.
    pub fn allowed(&self, stops: &[u32]) -> Vec<(u32, f32)> {
        let best = self.live.iter().map(|alternative| alternative.prior).fold(f32::NEG_INFINITY, f32::max);
        let mut allowed: Vec<(u32, f32)> = Vec::new();
        for alternative in &self.live {
            let (id, prior) = (alternative.tokens[self.at], alternative.prior - best);
            match allowed.iter_mut().find(|(known, _)| *known == id) {
                Some((_, prior_of_known)) => *prior_of_known = prior_of_known.max(prior),
                None => allowed.push((id, prior)),
            }
        }
        let stop = allowed.iter().position(|(id, _)| *id == STOP).map(|at| allowed.swap_remove(at).1);
        if let Some(prior) = stop.or(allowed.is_empty().then_some(0.0)) {
            allowed.extend(stops.iter().map(|&id| (id, prior)));
        }
        allowed
    }

    /// Makes all but the allowed tokens impossible.
    pub fn apply(&self, logits: &mut [f32], stops: &[u32]) {
        let mut allowed = self.allowed(stops);
        for (id, score) in &mut allowed {
            *score += logits[*id as usize];
        }
        logits.fill(f32::NEG_INFINITY);
        allowed.into_iter().for_each(|(id, score)| logits[id as usize] = score);
    }

    /// Takes note of the chosen token.
    pub fn accept(&mut self, id: u32) {
        let at = self.at;
        self.live.retain(|alternative| alternative.tokens[at] == id);
        self.at += 1;
        let complete = self.live.iter().find(|alternative| alternative.tokens.len() == self.at);
        if let Some(sentence) = complete.and_then(|alternative| alternative.sentence) {
            self.sentences[sentence].used = true;
            self.begin_sentence();
        }
    }

    fn begin_sentence(&mut self) {
        let quoted = self.sentences.iter().find(|sentence| sentence.used).map(|sentence| sentence.reference);
        let begun = quoted.is_some();
        let is_open = |sentence: &Sentence| !sentence.used && quoted.is_none_or(|n| n == sentence.reference);
        let open = self.sentences.iter().enumerate().filter(|(_, sentence)| is_open(sentence));
        self.live = open
            .map(|(i, sentence)| Alternative {
                tokens: if begun { sentence.later.clone() } else { sentence.first.clone() },
                prior: sentence.prior,
                sentence: Some(i),
            })
            .collect();
        if begun {
            // The full stop alone decides nothing: it also begins the next sentence.
            self.live.push(Alternative { tokens: self.close.clone(), prior: 0.0, sentence: None });
        }
        self.at = 0;
    }
}

/// Stands for any stop token.
const STOP: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// One token a character, the stop token last.
    fn tokenizer() -> TextTokenizer {
        let characters = "甲乙丙丁。[]123";
        let vocabulary: Vec<String> = characters.chars().enumerate().map(|(i, c)| format!("\"{c}\":{i}")).collect();
        let json = format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"decoder":null,"model":{{"type":"BPE","vocab":{{{}}},"merges":[]}}}}"#,
            vocabulary.join(",")
        );
        TextTokenizer::from_json(json.as_bytes()).unwrap()
    }

    const STOP_ID: u32 = 10;

    /// Follows the wishes of a model (a score for each token) to the end.
    fn write(references: &[(&str, f32)], wishes: impl Fn(usize, &mut [f32])) -> String {
        let references: Vec<PromptReference> = references
            .iter()
            .map(|(answer, score)| PromptReference { id: String::new(), answer: (*answer).into(), score: *score })
            .collect();
        let mut mask = ExtractiveMask::new(&references, &tokenizer()).unwrap();
        let mut text = String::new();
        for step in 0..100 {
            let mut logits = [0.0; 11];
            wishes(step, &mut logits);
            mask.apply(&mut logits, &[STOP_ID]);
            let best = (0..11).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
            if best == STOP_ID {
                return text;
            }
            text.push("甲乙丙丁。[]123".chars().nth(best as usize).unwrap());
            mask.accept(best);
        }
        panic!("no end: {text}");
    }

    #[test]
    fn only_whole_sentences_with_their_own_mark_can_be_written() {
        // This model wants 丁 above all, which stands only inside a sentence of the second reference.
        let text = write(&[("甲乙。", 0.5), ("丙丁。乙甲。", 0.5)], |_, logits| logits[3] = 9.0);
        for sentence in text.split_inclusive('。') {
            assert!(["甲乙[1]。", "丙丁[2]。", "乙甲[2]。"].contains(&sentence), "{text}");
        }
        assert!(text.ends_with('。'));
    }

    #[test]
    fn the_model_chooses_the_sentence_and_the_end() {
        let text = write(&[("甲乙。", 0.5), ("丙丁。", 0.5)], |_, logits| (logits[2], logits[10]) = (5.0, 5.0));
        assert_eq!(text, "丙丁[2]。");
    }

    #[test]
    fn the_retriever_decides_where_the_model_has_no_wish() {
        let text = write(&[("甲乙。", 0.2), ("丙丁。", 0.9)], |_, logits| logits[10] = 5.0);
        assert_eq!(text, "丙丁[2]。");
    }

    #[test]
    fn without_a_sentence_nothing_is_written() {
        assert_eq!(write(&[("。", 0.5)], |_, _| {}), "");
    }

    #[test]
    fn one_answer_quotes_one_reference() {
        let text = write(&[("甲乙。", 0.5), ("丙丁。", 0.5)], |_, logits| (logits[0], logits[10]) = (5.0, -5.0));
        assert_eq!(text, "甲乙[1]。");
    }

    #[test]
    fn no_sentence_is_written_twice() {
        let text = write(&[("甲乙。丙丁。", 0.5), ("甲乙。", 0.5)], |_, logits| logits[10] = -5.0);
        assert_eq!(text.matches("甲乙").count(), 1, "{text}");
    }
}
