//! What measuring programs share: vectors of a file, and what searches with some effort find and read.

use std::error::Error;
use std::path::Path;

use huatuo_fetch::Source;
use huatuo_index::{Decoys, Effort, Index, SearchQuery, Statistics};
use pollster::block_on;
use serde_json::{Value, json};

/// Nearest records that are looked for.
pub const K: usize = 10;

/// Vectors of little-endian f32, each divided by its length.
pub fn read_vectors(path: &Path, dimensions: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let mut numbers: Vec<f32> = bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
    numbers.chunks_exact_mut(dimensions).for_each(normalise);
    Ok(numbers)
}

pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
}

/// Asks all questions of an index whose records are named after the numbers of their vectors, nothing kept between them; `truth` has
/// the numbers of each question's nearest. Gives the effort, recall@10, and the mean cost of a search, its texts left out.
pub fn measure(
    folder: &Path,
    queries: &[f32],
    dimensions: usize,
    truth: &[Vec<usize>],
    effort: Effort,
) -> Result<Value, Box<dyn Error>> {
    let index = block_on(Index::open_with_cache(Source::directory(folder), 0))?;
    let (mut found, mut cost) = (0, Statistics::default());
    for (query, truth) in queries.chunks_exact(dimensions).zip(truth) {
        let query = SearchQuery { vector: Some(query), text: "", candidates: K, effort, decoys: Decoys::default() };
        let outcome = block_on(index.search(&query))?;
        let mut hits = outcome.hits;
        hits.sort_by(|a, b| b.dense.unwrap_or(-1.0).total_cmp(&a.dense.unwrap_or(-1.0)));
        let rows: Vec<u32> = hits.iter().take(K).map(|hit| hit.row).collect();
        let (records, _) = block_on(index.records(&rows))?;
        found += records.iter().filter(|record| truth.iter().any(|row| row.to_string() == record.id)).count();
        cost += outcome.statistics;
    }
    let each = truth.len() as f64;
    Ok(json!({
        "nodes": effort.nodes,
        "list_bytes": effort.list_bytes,
        "rerank": effort.rerank,
        "expand": effort.expand,
        "rounds": effort.rounds,
        "recall": found as f64 / each / K as f64,
        "bytes": cost.bytes as f64 / each,
        "requests": cost.requests as f64 / each,
        "trips": cost.trips as f64 / each,
        "lists": cost.lists as f64 / each,
        "scan_ms": cost.scan_ms / each,
    }))
}
