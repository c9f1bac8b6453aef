//! Candidates by vectors, and how they join those by BM25.

use super::sample::{files, open, search, vector};

const RECORDS: usize = 5000;
const DIMENSIONS: usize = 24;

fn naive_cosines(query: &[f32]) -> Vec<f32> {
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let cosine = |v: Vec<f32>| query.iter().zip(&v).map(|(x, y)| x * y).sum::<f32>() / length(query) / length(&v);
    (0..RECORDS).map(|row| cosine(vector(row, DIMENSIONS))).collect()
}

#[test]
fn cosines_are_within_a_hundredth_and_the_best_are_found() {
    let index = open(&files(RECORDS, DIMENSIONS));
    let query = vector(70_001, DIMENSIONS);
    let expected = naive_cosines(&query);
    let hits = search(&index, "", Some(&query), 20).hits;
    assert_eq!(hits.len(), 20);
    let worst = hits.iter().map(|hit| expected[hit.row as usize]).fold(f32::MAX, f32::min);
    let missed = (0..RECORDS as u32).filter(|row| hits.iter().all(|hit| hit.row != *row));
    assert!(missed.map(|row| expected[row as usize]).all(|cosine| cosine < worst + 0.01));
    for hit in hits {
        assert!((hit.dense.unwrap() - expected[hit.row as usize]).abs() < 0.01);
        assert_eq!((hit.bm25, hit.bm25_coverage), (None, None));
    }
}

#[test]
fn candidates_of_either_method_have_both_scores() {
    let index = open(&files(RECORDS, DIMENSIONS));
    let query = vector(3, DIMENSIONS);
    let rows = |text, vector| search(&index, text, vector, 10).hits.iter().map(|hit| hit.row).collect::<Vec<_>>();
    let mut union = [rows("", Some(&query)), rows("皮疹4321天", None)].concat();
    union.sort_unstable();
    union.dedup();
    let hits = search(&index, "皮疹4321天", Some(&query), 10).hits;
    assert_eq!(hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), union);
    assert!(union.len() > 10);
    let expected = naive_cosines(&query);
    for hit in &hits {
        assert!((hit.dense.unwrap() - expected[hit.row as usize]).abs() < 0.01);
        assert!(hit.bm25.is_some() && (0.0..=1.0).contains(&hit.bm25_coverage.unwrap()));
    }
    assert!(hits.iter().any(|hit| hit.row == 3 && hit.dense.unwrap() > 0.999));
}

#[test]
fn a_question_of_a_terabyte_of_candidates_finds_each_row_once() {
    let index = open(&files(10, DIMENSIONS));
    assert_eq!(search(&index, "头痛", Some(&vector(1, DIMENSIONS)), usize::MAX).hits.len(), 10);
}
