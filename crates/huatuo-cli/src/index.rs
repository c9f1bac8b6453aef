//! `huatuo index`: build, verify, search.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use huatuo_compute::{Cpu, Device};
use huatuo_data::{SourceRecord, read_records};
use huatuo_index::{Embed, IndexOptions, IndexWriter, Record, Statistics};
use huatuo_retrieve::{Encoder, EncoderPrecision, searched_text};
use rayon::prelude::*;
use serde::Serialize;

use crate::models;

/// Records embedded between two progress lines.
const BATCH: usize = 256;
/// Records that a core embeds together.
const TEXTS_TOGETHER: usize = 32;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Build an index from record files (.jsonl, .gz, .zst)
    Build {
        /// Record files in any of Huatuo-26M's shapes
        #[arg(long, required = true, num_args = 1..)]
        input: Vec<PathBuf>,
        /// Folder to write; must be empty or absent
        #[arg(long)]
        out: PathBuf,
        /// Which text of a record is searched
        #[arg(long, value_enum, default_value_t)]
        embed: EmbedArgument,
        /// Folder of an encoder
        #[arg(long)]
        retriever: Option<PathBuf>,
        /// Allowed share of malformed lines, 0 to 1
        #[arg(long, default_value_t = 0.01)]
        allow_malformed: f64,
        /// Embed on the fastest graphics processor, through Vulkan or Metal
        #[arg(long)]
        gpu: bool,
    },
    /// Check every checksum and invariant of an index
    Verify {
        /// Folder or URL
        place: String,
    },
    /// Search an index
    Search {
        /// Folder or URL
        place: String,
        /// The question
        question: String,
        /// Results
        #[arg(long, default_value_t = 5)]
        top: usize,
        /// Folder of an encoder
        #[arg(long)]
        retriever: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `--embed` of the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum EmbedArgument {
    /// All wordings of the question
    Question,
    /// The answer
    Answer,
    /// Both
    #[default]
    Both,
}

impl From<EmbedArgument> for Embed {
    fn from(argument: EmbedArgument) -> Self {
        match argument {
            EmbedArgument::Question => Self::Question,
            EmbedArgument::Answer => Self::Answer,
            EmbedArgument::Both => Self::Both,
        }
    }
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Build { input, out, embed, retriever, allow_malformed, gpu } => {
            build(input, out, (*embed).into(), retriever.as_deref(), *allow_malformed, *gpu)
        }
        Command::Verify { place } => verify(place),
        Command::Search { place, question, top, retriever, json } => {
            search(place, question, *top, retriever.as_deref(), *json)
        }
    }
}

fn build(
    input: &[PathBuf],
    out: &Path,
    embed: Embed,
    retriever: Option<&Path>,
    allowed: f64,
    on_gpu: bool,
) -> Result<()> {
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: an index is written into a folder of its own", out.display());
    }
    let reading = read_records(input, allowed)?;
    for line in &reading.malformed {
        eprintln!("skipped {line}");
    }
    if reading.malformed_count > 0 {
        eprintln!("skipped {} malformed lines", reading.malformed_count);
    }
    let files = models::retriever_files(retriever)?;
    if on_gpu {
        let gpu = models::gpu()?;
        eprintln!("embedding on {}", gpu.name());
        let encoder = Encoder::load(gpu, &files, EncoderPrecision::F32)?;
        write_index(&reading.records, &encoder, embed, out, true)?;
    } else {
        let encoder = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?;
        write_index(&reading.records, &encoder, embed, out, true)?;
    }
    println!("{} records in {}", reading.records.len(), out.display());
    Ok(())
}

/// Embeds records, on all cores where the encoder is on the CPU, and writes an index of them.
pub fn write_index<D: Device>(
    records: &[SourceRecord],
    encoder: &Encoder<D>,
    embed: Embed,
    out: &Path,
    progress: bool,
) -> Result<()>
where
    Encoder<D>: Sync,
{
    let started = Instant::now();
    let mut writer = IndexWriter::new(IndexOptions {
        dimensions: encoder.dimensions(),
        embed,
        encoder_name: "bert".to_owned(),
        encoder_sha256: encoder.sha256().to_owned(),
    })?;
    for (n, batch) in records.chunks(BATCH).enumerate() {
        let texts: Vec<String> =
            batch.iter().map(|record| searched_text(embed, &record.questions, &record.answer)).collect();
        let embedded: Vec<_> = texts
            .par_chunks(TEXTS_TOGETHER)
            .map(|texts| pollster::block_on(encoder.embed_batch(&texts.iter().map(String::as_str).collect::<Vec<_>>())))
            .collect::<Result<_, _>>()?;
        for ((record, text), vector) in batch.iter().zip(&texts).zip(embedded.iter().flatten()) {
            writer.add(&index_record(record), text, vector)?;
        }
        let done = n * BATCH + batch.len();
        if progress {
            let left = started.elapsed().as_secs_f64() / done as f64 * (records.len() - done) as f64;
            eprintln!("embedded {done} of {} records, {left:.0} s left", records.len());
        }
    }
    writer.finish(out)?;
    Ok(())
}

fn index_record(record: &SourceRecord) -> Record {
    Record {
        id: record.id.clone(),
        question: record.questions[0].clone(),
        answer: record.answer.clone(),
        department: record.department.clone(),
        related_diseases: record.related_diseases.clone(),
        source: record.source.clone(),
        url: record.url.clone(),
    }
}

fn verify(place: &str) -> Result<()> {
    let report = pollster::block_on(huatuo_index::verify(models::source(place)))?;
    let huatuo_index::Report { packs, bytes, blocks, records, terms, postings } = report;
    println!(
        "{place} is sound: {records} records, {terms} terms, {postings} postings, {blocks} blocks, {packs} packs, {bytes} bytes"
    );
    Ok(())
}

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
    milliseconds: MillisecondsOutput,
}

#[derive(Serialize)]
struct MillisecondsOutput {
    embed: f64,
    fetch: f64,
    decode: f64,
    scan: f64,
}

fn search(place: &str, question: &str, top: usize, retriever: Option<&Path>, json: bool) -> Result<()> {
    let question = huatuo_core::Question::new(question)?;
    let retriever = models::retriever(retriever, Some(place))?;
    let (found, embed) = pollster::block_on(retriever.find(question.text(), top))?;
    let Statistics { bytes, requests, trips, fetch_ms, decode_ms, scan_ms } = retriever.statistics();
    let results: Vec<ResultOutput> = (found.into_iter())
        .map(|(ranked, record)| ResultOutput {
            id: record.id,
            question: record.question,
            answer: record.answer,
            department: record.department,
            source: record.source,
            score: ranked.confidence,
            dense: ranked.dense,
            bm25: ranked.bm25,
            fused: ranked.fused,
        })
        .collect();
    if json {
        let milliseconds = MillisecondsOutput { embed, fetch: fetch_ms, decode: decode_ms, scan: scan_ms };
        let statistics = StatisticsOutput { bytes, requests, trips, milliseconds };
        println!("{}", serde_json::to_string(&SearchOutput { results, statistics })?);
        return Ok(());
    }
    for result in results {
        println!("{:.3}  {}  {}\n       {}", result.score, result.id, result.question, result.answer);
    }
    eprintln!("{bytes} bytes, {requests} requests, {trips} dependent trips");
    Ok(())
}
