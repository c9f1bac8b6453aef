//! `huatuo speed`: how fast a model file is read and written on this machine.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use huatuo_compute::Cpu;
use huatuo_generate::{Decoder, Gguf};
use serde::Serialize;

use crate::models;

#[derive(clap::Args)]
pub struct Arguments {
    /// A GGUF file
    model: PathBuf,
    /// Threads; all processors without it
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens read at once
    #[arg(long, default_value_t = 64)]
    prefill: usize,
    /// Tokens written behind them
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// Repetitions after one that is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Tokens a second of each round.
#[derive(Serialize)]
struct Output {
    instruction_set: &'static str,
    threads: usize,
    load_ms: f64,
    kv_bytes: usize,
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.model;
    let bytes = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let device = match arguments.threads {
        Some(threads) => Cpu::with_threads(threads)?,
        None => models::all_processors()?,
    };
    let (instruction_set, threads) = (device.instruction_set(), device.threads());
    let started = Instant::now();
    let mut decoder = Decoder::load(device, &Gguf::parse(&bytes)?)?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    drop(bytes);
    let mut cache = decoder.new_cache();
    let mut logits = vec![0.0; decoder.vocabulary()];
    let vocabulary = decoder.vocabulary() as u32;
    let (mut prefill, mut decode, mut kv_bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..=arguments.rounds {
        cache.truncate(0);
        let ids: Vec<u32> = (0..arguments.prefill as u32).map(|i| (i * 37 + 262) % vocabulary).collect();
        let started = Instant::now();
        decoder.read(&ids, &mut cache, &mut logits);
        let read = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for i in 0..arguments.decode as u32 {
            decoder.forward(&[(i * 11 + 300) % vocabulary], &mut cache, Some(&mut logits));
        }
        let written = started.elapsed().as_secs_f64();
        if round > 0 {
            prefill.push(arguments.prefill as f64 / read);
            decode.push(arguments.decode as f64 / written);
        }
        kv_bytes = decoder.cache_bytes(&cache);
    }
    let output = Output { instruction_set, threads, load_ms, kv_bytes, prefill, decode };
    if arguments.json {
        println!("{}", serde_json::to_string(&output)?);
    } else {
        let Output { instruction_set, threads, load_ms, kv_bytes, prefill, decode } = &output;
        println!(
            "{instruction_set}, {threads} threads; loaded in {load_ms:.0} ms; {kv_bytes} bytes of keys and values"
        );
        println!("prefill {:.1} tokens/s, decode {:.2} tokens/s (medians)", median(prefill), median(decode));
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
