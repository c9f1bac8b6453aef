//! BM25 as its formula says, computed from the texts without an index.

use std::collections::HashSet;

use super::sample::{files, open, order, record, search};
use crate::terms::term_keys;

const RECORDS: usize = 600;

/// Score and coverage of one document. Documents here are short enough for their lengths to be exact.
fn naive(documents: &[Vec<u64>], row: usize, question: &HashSet<u64>) -> (f64, f64) {
    let (all, average) = (documents.len() as f64, documents.concat().len() as f64 / documents.len() as f64);
    let (mut score, mut present, mut total) = (0.0, 0.0, 0.0);
    for term in question {
        let with = documents.iter().filter(|document| document.contains(term)).count() as f64;
        let idf = (1.0 + (all - with + 0.5) / (with + 0.5)).ln();
        let frequency = documents[row].iter().filter(|other| *other == term).count() as f64;
        let length = documents[row].len() as f64 / average;
        score += idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length));
        total += idf;
        present += if frequency > 0.0 { idf } else { 0.0 };
    }
    (score, present / total)
}

#[test]
fn scores_and_coverage_agree_with_the_formula() {
    let index = open(&files(RECORDS, 4));
    let order = order(&index);
    let documents: Vec<_> = order.iter().map(|n| term_keys(&record(*n).question)).collect();
    assert!(documents.iter().all(|document| document.len() < 40));
    for text in ["头痛咳嗽怎么办", "失眠 300 天", "胸闷胸闷胸闷没有这个词", "qwertz"] {
        let question: HashSet<u64> = term_keys(text).into_iter().collect();
        let hits = search(&index, text, None, RECORDS).hits;
        let matching = (0..RECORDS).filter(|row| naive(&documents, *row, &question).0 > 0.0);
        assert_eq!(hits.iter().map(|hit| hit.row as usize).collect::<Vec<_>>(), matching.collect::<Vec<_>>());
        for hit in hits {
            let (score, coverage) = naive(&documents, hit.row as usize, &question);
            assert!((f64::from(hit.bm25.unwrap()) - score).abs() < 1e-4, "{text} in row {}", hit.row);
            assert!((f64::from(hit.bm25_coverage.unwrap()) - coverage).abs() < 1e-5, "{text} in row {}", hit.row);
            assert_eq!(hit.dense, None);
        }
    }
}

#[test]
fn the_best_are_chosen_and_equals_by_row() {
    let index = open(&files(RECORDS, 4));
    let mut all = search(&index, "头痛发热", None, RECORDS).hits;
    all.sort_by(|a, b| b.bm25.unwrap().total_cmp(&a.bm25.unwrap()).then(a.row.cmp(&b.row)));
    let mut best: Vec<u32> = all.iter().take(25).map(|hit| hit.row).collect();
    best.sort_unstable();
    let found: Vec<u32> = search(&index, "头痛发热", None, 25).hits.iter().map(|hit| hit.row).collect();
    assert_eq!(found, best);
}
