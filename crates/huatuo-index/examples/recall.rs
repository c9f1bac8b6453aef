//! Builds an index of given vectors and measures what it finds of the truly nearest, and what it reads for that.
//!
//! Prints a line of JSON for each effort; bytes, requests and trips are those of the search, without texts.
//!
//! `recall BASE QUERIES DIMENSIONS FOLDER [ROWS]`: BASE and QUERIES are little-endian f32. An index that is in FOLDER already is used.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use huatuo_fetch::Source;
use huatuo_index::{Effort, Embed, Index, IndexOptions, IndexWriter, MANIFEST_NAME, Record, SearchQuery};
use pollster::block_on;
use rayon::prelude::*;

/// Nearest records that are looked for.
const K: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, queries, dimensions, folder, rows @ ..] = arguments.as_slice() else {
        return Err("recall BASE QUERIES DIMENSIONS FOLDER [ROWS]".into());
    };
    let dimensions: usize = dimensions.parse()?;
    let mut base = read_vectors(Path::new(base), dimensions)?;
    let queries = read_vectors(Path::new(queries), dimensions)?;
    if let Some(rows) = rows.first() {
        base.truncate(rows.parse::<usize>()? * dimensions);
    }
    let folder = Path::new(folder);
    if !folder.join(MANIFEST_NAME).exists() {
        build(&base, dimensions, folder)?;
    }
    let truth: Vec<Vec<usize>> = queries.par_chunks(dimensions).map(|query| exact(&base, query)).collect();
    for effort in efforts() {
        measure(folder, &queries, dimensions, &truth, effort)?;
    }
    Ok(())
}

fn efforts() -> Vec<Effort> {
    let mut out = Vec::new();
    for list_kilobytes in [50, 100, 150, 200, 300] {
        for (expand, rounds) in [(0, 0), (10, 1), (16, 2), (24, 3)] {
            out.push(Effort { list_bytes: list_kilobytes << 10, expand, rounds, ..Effort::default() });
        }
    }
    out
}

fn read_vectors(path: &Path, dimensions: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let mut numbers: Vec<f32> = bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
    for vector in numbers.chunks_exact_mut(dimensions) {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= length);
    }
    Ok(numbers)
}

fn build(base: &[f32], dimensions: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let options = IndexOptions {
        dimensions,
        embed: Embed::Question,
        encoder_name: "given".to_owned(),
        encoder_sha256: "00".repeat(32),
        input: String::new(),
    };
    let mut writer = IndexWriter::open(options, folder)?;
    for (row, vector) in base.chunks_exact(dimensions).enumerate().skip(writer.resumed() as usize) {
        let record = Record { id: row.to_string(), ..Record::default() };
        writer.add(&record, "", vector)?;
    }
    let added = started.elapsed().as_secs_f64();
    writer.finish()?;
    eprintln!("built in {:.1} s, of which {added:.1} s to take the vectors in", started.elapsed().as_secs_f64());
    Ok(())
}

fn exact(base: &[f32], query: &[f32]) -> Vec<usize> {
    let product = |vector: &[f32]| -> f32 { vector.iter().zip(query).map(|(a, b)| a * b).sum() };
    let mut scored: Vec<(f32, usize)> = base.chunks_exact(query.len()).map(product).zip(0..).collect();
    scored.select_nth_unstable_by(K, |a, b| b.0.total_cmp(&a.0));
    scored[..K].iter().map(|(_, row)| *row).collect()
}

fn measure(
    folder: &Path,
    queries: &[f32],
    dimensions: usize,
    truth: &[Vec<usize>],
    effort: Effort,
) -> Result<(), Box<dyn Error>> {
    let index = block_on(Index::open_with_cache(Source::directory(folder), 0))?;
    let (mut found, mut bytes, mut requests, mut trips, mut lists, mut scan) = (0, 0, 0, 0, 0, 0.0);
    for (query, truth) in queries.chunks_exact(dimensions).zip(truth) {
        let query = SearchQuery { vector: Some(query), text: "", candidates: K, effort };
        let outcome = block_on(index.search(&query))?;
        let mut hits = outcome.hits;
        hits.sort_by(|a, b| b.dense.unwrap_or(-1.0).total_cmp(&a.dense.unwrap_or(-1.0)));
        let rows: Vec<u32> = hits.iter().take(K).map(|hit| hit.row).collect();
        let (records, _) = block_on(index.records(&rows))?;
        found += records.iter().filter(|record| truth.iter().any(|row| row.to_string() == record.id)).count();
        let statistics = outcome.statistics;
        bytes += statistics.bytes;
        requests += statistics.requests;
        trips += statistics.trips;
        lists += statistics.lists;
        scan += statistics.scan_ms;
    }
    let each = truth.len() as f64;
    let line = serde_json::json!({
        "nodes": effort.nodes,
        "list_bytes": effort.list_bytes,
        "expand": effort.expand,
        "rounds": effort.rounds,
        "recall": found as f64 / each / K as f64,
        "bytes": bytes as f64 / each,
        "requests": requests as f64 / each,
        "trips": trips as f64 / each,
        "lists": lists as f64 / each,
        "scan_ms": scan / each,
    });
    println!("{line}");
    Ok(())
}
