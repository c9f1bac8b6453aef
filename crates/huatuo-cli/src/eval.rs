//! `huatuo eval`: measurements.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use huatuo_compute::Cpu;
use huatuo_data::{Query, SourceRecord, read_queries, read_records};
use huatuo_eval::RetrievalMetrics;
use huatuo_fetch::Source;
use huatuo_index::{Effort, Hit, Index};
use huatuo_native::write_index;
use huatuo_retrieve::{Calibration, Encoder, EncoderPrecision, HybridRetriever, rank};
use serde::Serialize;

use crate::index::EmbedArgument;

/// Candidates of each search; the deepest metric looks at 100.
const DEPTH: usize = 100;

#[derive(clap::Subcommand)]
pub enum Command {
    /// How well questions find their records, by BM25, by vectors and by both
    Retrieval {
        /// Record files
        #[arg(long, required_unless_present = "index", num_args = 1..)]
        records: Vec<PathBuf>,
        /// Folder or URL of an index of them that is there already
        #[arg(long, requires = "queries", conflicts_with = "records")]
        index: Option<String>,
        /// Lines of {"question", "id"}; without them each record's first question is asked
        #[arg(long)]
        queries: Option<PathBuf>,
        /// Which text of a record is searched
        #[arg(long, value_enum, default_value_t)]
        embed: EmbedArgument,
        /// Folder of an encoder
        #[arg(long)]
        retriever: Option<PathBuf>,
        /// Numbers that questions are embedded in; records always are in f32, as in an index
        #[arg(long, value_enum, default_value_t)]
        precision: PrecisionArgument,
        /// What one point of BM25 is worth beside e^(4 · cosine), in place of the encoder's calibration
        #[arg(long)]
        lexical_weight: Option<f32>,
        /// Allowed share of malformed lines, 0 to 1
        #[arg(long, default_value_t = 0.01)]
        allow_malformed: f64,
        /// Read the whole index, to measure the ranking apart from what the index's limits miss
        #[arg(long)]
        exact: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `--precision` of the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum PrecisionArgument {
    /// Single precision
    #[default]
    F32,
    /// 8-bit weights and activations
    Int8,
}

impl From<PrecisionArgument> for EncoderPrecision {
    fn from(argument: PrecisionArgument) -> Self {
        match argument {
            PrecisionArgument::F32 => Self::F32,
            PrecisionArgument::Int8 => Self::Int8,
        }
    }
}

/// What `--json` prints; an interface to other programs.
#[derive(Serialize)]
struct Output {
    queries: usize,
    bm25: MetricsOutput,
    dense: MetricsOutput,
    hybrid: MetricsOutput,
}

#[derive(Serialize)]
struct MetricsOutput {
    #[serde(rename = "recall@1")]
    recall_at_1: f64,
    #[serde(rename = "recall@10")]
    recall_at_10: f64,
    #[serde(rename = "recall@100")]
    recall_at_100: f64,
    #[serde(rename = "mrr@10")]
    mrr_at_10: f64,
    #[serde(rename = "ndcg@10")]
    ndcg_at_10: f64,
}

impl From<RetrievalMetrics> for MetricsOutput {
    fn from(m: RetrievalMetrics) -> Self {
        Self {
            recall_at_1: m.recall_at_1,
            recall_at_10: m.recall_at_10,
            recall_at_100: m.recall_at_100,
            mrr_at_10: m.mrr_at_10,
            ndcg_at_10: m.ndcg_at_10,
        }
    }
}

pub fn run(command: &Command) -> Result<()> {
    let Command::Retrieval {
        records,
        queries,
        embed,
        retriever,
        precision,
        lexical_weight,
        allow_malformed,
        exact,
        json,
        index,
    } = command;
    let files = huatuo_native::retriever_files(retriever.as_deref())?;
    let folder = tempfile::tempdir()?;
    let mut first_questions = Vec::new();
    let source = match index {
        Some(place) => huatuo_native::source(place),
        None => {
            let reading = read_records(records, *allow_malformed)?;
            if reading.malformed_count > 0 {
                eprintln!("skipped {} malformed lines, the first: {}", reading.malformed_count, reading.malformed[0]);
            }
            let encoder = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?;
            write_index(&reading.records, &encoder, (*embed).into(), folder.path())?;
            let asked = |record: &SourceRecord| Query { question: record.questions[0].clone(), id: record.id.clone() };
            first_questions.extend(reading.records.iter().map(asked));
            Source::directory(folder.path())
        }
    };
    let encoder = Encoder::load(Cpu::new(), &files, (*precision).into())?;
    let index = pollster::block_on(Index::open(source))?;
    let mut calibration = Calibration::from_files(&files)?;
    calibration.lexical_weight = lexical_weight.unwrap_or(calibration.lexical_weight);
    let mut retriever = HybridRetriever::new(encoder, index, calibration)?;
    if *exact {
        retriever.set_effort(Effort::unlimited());
    }
    let rows = rows_by_id(retriever.index())?;
    let queries = match queries {
        Some(path) => read_queries(path)?,
        None => first_questions,
    };
    let mut ranks = [const { Vec::new() }; 3];
    for query in &queries {
        let wanted = *rows.get(&query.id).with_context(|| format!("no record has the id `{}`", query.id))?;
        let (outcome, _) = pollster::block_on(retriever.search(&query.question, DEPTH))?;
        ranks[0].push(rank_of(wanted, &outcome.hits, |hit| hit.bm25.filter(|score| *score > 0.0)));
        ranks[1].push(rank_of(wanted, &outcome.hits, |hit| hit.dense));
        let fused = rank(&outcome.hits, calibration.lexical_weight);
        ranks[2].push(fused.iter().take(DEPTH).position(|r| r.hit.row == wanted).map(|at| at + 1));
    }
    let [bm25, dense, hybrid] = ranks.map(RetrievalMetrics::from_ranks);
    if *json {
        let (bm25, dense, hybrid) = (bm25.into(), dense.into(), hybrid.into());
        println!("{}", serde_json::to_string(&Output { queries: queries.len(), bm25, dense, hybrid })?);
    } else {
        println!("{} queries over {} records", queries.len(), rows.len());
        println!("{:8} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "R@1", "R@10", "R@100", "MRR@10", "nDCG@10");
        for (name, m) in [("bm25", bm25), ("dense", dense), ("hybrid", hybrid)] {
            let values = [m.recall_at_1, m.recall_at_10, m.recall_at_100, m.mrr_at_10, m.ndcg_at_10];
            println!("{name:8} {}", values.map(|value| format!("{value:8.4}")).join(" "));
        }
    }
    Ok(())
}

/// The row of each record by its identifier: an index has an order of its own.
fn rows_by_id(index: &Index) -> Result<HashMap<String, u32>> {
    const TOGETHER: usize = 4096;
    let rows: Vec<u32> = (0..index.manifest().records).collect();
    let mut by_id = HashMap::new();
    for rows in rows.chunks(TOGETHER) {
        let (records, _) = pollster::block_on(index.records(rows))?;
        by_id.extend(records.into_iter().map(|record| record.id).zip(rows.iter().copied()));
    }
    Ok(by_id)
}

/// Rank of a row by one score, from 1; rows without that score don't count, ties go to the lower row.
fn rank_of(wanted: u32, hits: &[Hit], score: impl Fn(&Hit) -> Option<f32>) -> Option<usize> {
    let own = hits.iter().find(|hit| hit.row == wanted).and_then(&score)?;
    let better = |hit: &&Hit| score(hit).is_some_and(|s| s > own || (s == own && hit.row < wanted));
    let rank = hits.iter().filter(better).count() + 1;
    (rank <= DEPTH).then_some(rank)
}
