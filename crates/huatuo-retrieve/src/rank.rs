//! Fusing the dense and the lexical score.

use huatuo_index::{Hit, QuestionTerms};

/// How fast a cosine's worth grows with it, beside BM25's, whose worth grows evenly.
///
/// Chosen with the weight on questions that neither the encoder was trained on nor the bars are measured on.
const SHARPNESS: f32 = 4.0;

/// A record with its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// What was found of it; the coverage, where its text was read, is at least that of the text.
    pub hit: Hit,
    /// What the ranking sorts by, comparable within one question only.
    pub fused: f32,
    /// How alike question and record are, 0 to 1, comparable between questions.
    pub confidence: f32,
}

impl Ranked {
    /// The same with what the record's text says: of frequent words not all postings are read, and a record that was found by its vector
    /// would count as lacking them.
    pub(crate) fn with_text(self, terms: &QuestionTerms, text: &str) -> Self {
        let coverage = self.hit.bm25_coverage.map(|known| known.max(terms.coverage(text)));
        let hit = Hit { bm25_coverage: coverage, ..self.hit };
        Self { confidence: confidence(&hit), hit, ..self }
    }
}

/// Candidates by their fused score, e^(4 · cosine) + `lexical_weight` · BM25, best first.
///
/// A cosine near 1 is strong evidence, differences between low ones are noise: so vectors decide where the encoder knows
/// the subject, words where it doesn't, and one weight serves both. A plain sum needs five times the weight for long
/// questions that it needs for short ones. Standardised scores and ranks are worse (measured in
/// `docs/BENCHMARKS.md`): a BM25 score far above the others is evidence, and both take that away.
pub fn rank(hits: &[Hit], lexical_weight: f32) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = (hits.iter())
        .map(|hit| Ranked {
            hit: *hit,
            fused: (SHARPNESS * hit.dense.unwrap_or(0.0)).exp() + lexical_weight * hit.bm25.unwrap_or(0.0),
            confidence: confidence(hit),
        })
        .collect();
    ranked.sort_by(|a, b| b.fused.total_cmp(&a.fused).then(a.hit.row.cmp(&b.hit.row)));
    ranked
}

/// Mean of the cosine and of the share of the question's words (by their rarity) that the record has: a question of
/// another field may reach one of them by chance, hardly both.
fn confidence(hit: &Hit) -> f32 {
    let covered = hit.bm25_coverage.unwrap_or(0.0);
    hit.dense.map_or(covered, |cosine| (cosine + covered) / 2.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(row: u32, dense: f32, bm25: f32) -> Hit {
        Hit { row, dense: Some(dense), bm25: Some(bm25), bm25_coverage: Some(bm25 / 20.0) }
    }

    #[test]
    fn the_weight_moves_the_order_from_dense_to_lexical() {
        let hits = [hit(0, 0.9, 1.0), hit(1, 0.1, 15.0), hit(2, 0.2, 2.0)];
        assert_eq!(rank(&hits, 0.0)[0].hit.row, 0);
        assert_eq!(rank(&hits, 10.0)[0].hit.row, 1);
    }

    #[test]
    fn a_text_without_the_words_lowers_no_confidence() {
        let ranked = rank(&[hit(0, 0.9, 10.0)], 0.22)[0];
        assert_eq!(ranked.confidence, 0.7);
        assert_eq!(ranked.with_text(&QuestionTerms::default(), "头痛"), ranked);
    }

    #[test]
    fn a_high_cosine_outweighs_words_that_a_low_one_yields_to() {
        let order = |first, second| rank(&[first, second], 0.22)[0].hit.row;
        assert_eq!(order(hit(0, 0.9, 10.0), hit(1, 0.7, 30.0)), 0);
        assert_eq!(order(hit(0, 0.4, 10.0), hit(1, 0.2, 30.0)), 1);
    }

    #[test]
    fn equal_candidates_keep_the_order_of_their_rows() {
        let hits = [hit(5, 0.5, 1.0), hit(3, 0.5, 1.0)];
        assert_eq!(rank(&hits, 0.01).iter().map(|r| r.hit.row).collect::<Vec<_>>(), [3, 5]);
    }
}
