//! `huatuo speed`: how fast a model file is read and written on this machine.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use huatuo_compute::{Cpu, Device};
use huatuo_generate::Decoder;
use serde::Serialize;

use crate::models;

#[derive(clap::Args)]
pub struct Arguments {
    /// A GGUF file
    model: PathBuf,
    /// What computes
    #[arg(long, value_enum, default_value = "cpu")]
    device: models::Processor,
    /// Threads of the CPU; all processors without it
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
    /// Instruction set and threads, or adapter.
    device: String,
    /// Of the model file.
    bytes: u64,
    /// Bytes a second that a graphics processor copies, read and written.
    copy_bytes_per_second: Option<f64>,
    load_ms: f64,
    kv_bytes: usize,
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let output = match arguments.device {
        models::Processor::Gpu => {
            let gpu = models::gpu()?;
            let copy_bytes_per_second = Some(pollster::block_on(gpu.copy_bandwidth())?);
            Output { copy_bytes_per_second, ..measure(arguments, gpu.clone(), gpu.name())? }
        }
        models::Processor::Cpu => {
            let cpu = match arguments.threads {
                Some(threads) => Cpu::with_threads(threads)?,
                None => models::all_processors()?,
            };
            let name = format!("{}, {} threads", cpu.instruction_set(), cpu.threads());
            measure(arguments, cpu, name)?
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&output)?);
    } else {
        let Output { device, load_ms, kv_bytes, prefill, decode, .. } = &output;
        println!("{device}; loaded in {load_ms:.0} ms; {kv_bytes} bytes of keys and values");
        println!("prefill {:.1} tokens/s, decode {:.2} tokens/s (medians)", median(prefill), median(decode));
    }
    Ok(())
}

fn measure<D: Device>(arguments: &Arguments, device: D, name: String) -> Result<Output> {
    let started = Instant::now();
    let (mut decoder, _) = models::decoder(device, &models::ModelFile::Path(arguments.model.clone()))
        .with_context(|| format!("could not load {}", arguments.model.display()))?;
    pollster::block_on(decoder.settle())?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut cache = decoder.new_cache();
    let vocabulary = decoder.vocabulary();
    let (mut prefill, mut decode, mut kv_bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..=arguments.rounds {
        cache.truncate(0);
        let ids: Vec<u32> = (0..arguments.prefill).map(|i| ((i * 37 + 262) % vocabulary) as u32).collect();
        let started = Instant::now();
        let last = ids.len().div_ceil(Decoder::<D>::CHUNK);
        for (i, chunk) in ids.chunks(Decoder::<D>::CHUNK).enumerate() {
            decoder.forward(chunk, &mut cache, i + 1 == last);
        }
        pollster::block_on(decoder.settle())?;
        let read = started.elapsed().as_secs_f64();
        let started = Instant::now();
        pollster::block_on(decoder.write(&mut cache, arguments.decode))?;
        pollster::block_on(decoder.settle())?;
        let written = started.elapsed().as_secs_f64();
        if round > 0 {
            prefill.push(arguments.prefill as f64 / read);
            decode.push(arguments.decode as f64 / written);
        }
        kv_bytes = decoder.cache_bytes(&cache);
    }
    let bytes = std::fs::metadata(&arguments.model)?.len();
    Ok(Output { device: name, bytes, copy_bytes_per_second: None, load_ms, kv_bytes, prefill, decode })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
