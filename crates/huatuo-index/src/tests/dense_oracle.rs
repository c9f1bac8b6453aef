//! Candidates by vectors, and how they join those by BM25.

use super::sample::{files, open, order, search, search_with, vector};
use crate::Effort;

const RECORDS: usize = 5000;
const DIMENSIONS: usize = 24;

fn naive_cosine(query: &[f32], n: usize) -> f32 {
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let own = vector(n, DIMENSIONS);
    query.iter().zip(&own).map(|(x, y)| x * y).sum::<f32>() / length(query) / length(&own)
}

#[test]
fn cosines_are_within_a_hundredth_and_the_best_are_found() {
    let index = open(&files(RECORDS, DIMENSIONS));
    let order = order(&index);
    let query = vector(70_001, DIMENSIONS);
    let mut expected: Vec<f32> = (0..RECORDS).map(|n| naive_cosine(&query, n)).collect();
    let hits = search(&index, "", Some(&query), 20).hits;
    assert_eq!(hits.len(), 20);
    for hit in &hits {
        assert!((hit.dense.unwrap() - naive_cosine(&query, order[hit.row as usize])).abs() < 0.01);
        assert_eq!((hit.bm25, hit.bm25_coverage), (None, None));
    }
    expected.sort_by(|a, b| b.total_cmp(a));
    let found = hits.iter().filter(|hit| hit.dense.unwrap() >= expected[19] - 0.01).count();
    assert!(found >= 19, "{found} of 20");
}

#[test]
fn without_limits_exactly_the_nearest_are_found() {
    let index = open(&files(RECORDS, DIMENSIONS));
    for n in [70_001, 80_003, 90_005] {
        let query = vector(n, DIMENSIONS);
        let all = search_with(&index, "", Some(&query), RECORDS, Effort::unlimited()).hits;
        assert_eq!(all.len(), RECORDS);
        let mut all: Vec<(f32, u32)> = all.iter().map(|hit| (hit.dense.unwrap(), hit.row)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut expected: Vec<u32> = all[..10].iter().map(|(_, row)| *row).collect();
        expected.sort_unstable();
        let found: Vec<u32> = search(&index, "", Some(&query), 10).hits.iter().map(|hit| hit.row).collect();
        let same = found.iter().filter(|row| expected.contains(row)).count();
        assert!(same >= 9, "{same} of 10");
    }
}

#[test]
fn candidates_of_either_method_have_both_scores() {
    let index = open(&files(RECORDS, DIMENSIONS));
    let order = order(&index);
    let query = vector(3, DIMENSIONS);
    let rows = |text, vector| search(&index, text, vector, 10).hits.iter().map(|hit| hit.row).collect::<Vec<_>>();
    let mut union = [rows("", Some(&query)), rows("皮疹4321天", None)].concat();
    union.sort_unstable();
    union.dedup();
    let hits = search(&index, "皮疹4321天", Some(&query), 10).hits;
    assert_eq!(hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), union);
    assert!(union.len() > 10);
    for hit in &hits {
        assert!((hit.dense.unwrap() - naive_cosine(&query, order[hit.row as usize])).abs() < 0.01);
        assert!(hit.bm25.is_some() && (0.0..=1.0).contains(&hit.bm25_coverage.unwrap()));
    }
    assert!(hits.iter().any(|hit| order[hit.row as usize] == 3 && hit.dense.unwrap() > 0.999));
}

#[test]
fn a_question_of_a_terabyte_of_candidates_finds_each_row_once() {
    let index = open(&files(10, DIMENSIONS));
    assert_eq!(search(&index, "头痛", Some(&vector(1, DIMENSIONS)), usize::MAX).hits.len(), 10);
}
