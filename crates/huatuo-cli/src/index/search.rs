//! `huatuo index search`.

use std::path::Path;

use anyhow::Result;
use huatuo_index::Statistics;
use serde::Serialize;

/// What `search --json` prints; an interface to other programs.
#[derive(Serialize)]
struct SearchOutput {
    results: Vec<ResultOutput>,
    statistics: StatisticsOutput,
}

#[derive(Serialize)]
struct ResultOutput {
    id: String,
    question: String,
    answer: String,
    department: String,
    source: String,
    score: f32,
    dense: f32,
    bm25: f32,
    fused: f32,
}

#[derive(Serialize)]
struct StatisticsOutput {
    bytes: u64,
    requests: u64,
    trips: u64,
    lists: u64,
    milliseconds: MillisecondsOutput,
}

#[derive(Serialize)]
struct MillisecondsOutput {
    embed: f64,
    fetch: f64,
    decode: f64,
    scan: f64,
}

pub fn search(place: &str, question: &str, top: usize, retriever: Option<&Path>, json: bool) -> Result<()> {
    let question = huatuo_core::Question::new(question)?;
    let retriever = huatuo_native::retriever(retriever, Some(place))?;
    let (found, embed) = pollster::block_on(retriever.find(question.text(), top))?;
    let Statistics { bytes, requests, trips, lists, fetch_ms, decode_ms, scan_ms, .. } = retriever.statistics();
    let results: Vec<ResultOutput> = (found.into_iter())
        .map(|(ranked, record)| ResultOutput {
            id: record.id,
            question: record.question,
            answer: record.answer,
            department: record.department,
            source: record.source,
            score: ranked.confidence,
            dense: ranked.hit.dense.unwrap_or(0.0),
            bm25: ranked.hit.bm25.unwrap_or(0.0),
            fused: ranked.fused,
        })
        .collect();
    if json {
        let milliseconds = MillisecondsOutput { embed, fetch: fetch_ms, decode: decode_ms, scan: scan_ms };
        let statistics = StatisticsOutput { bytes, requests, trips, lists, milliseconds };
        println!("{}", serde_json::to_string(&SearchOutput { results, statistics })?);
        return Ok(());
    }
    for result in results {
        println!("{:.3}  {}  {}\n       {}", result.score, result.id, result.question, result.answer);
    }
    eprintln!("{bytes} bytes, {requests} requests, {trips} dependent trips");
    Ok(())
}
