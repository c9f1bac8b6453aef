//! `huatuo speed`: how fast a model file is read and written on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use huatuo_compute::{Cpu, Device, Gpu};
use huatuo_generate::{Decoder, GenerateError, KvCache, Reading};
use serde::Serialize;

#[derive(clap::Args)]
pub struct Arguments {
    /// A GGUF file
    model: PathBuf,
    /// What computes
    #[arg(long, value_enum, default_value = "cpu")]
    device: huatuo_native::Processor,
    /// Threads of the CPU; all processors without it
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens read at once
    #[arg(long, default_value_t = 64)]
    prefill: usize,
    /// Tokens written behind them
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// Also write so many texts beside each other, as a server does: "8,32"
    #[arg(long, value_delimiter = ',')]
    texts: Vec<usize>,
    /// Repetitions after one that is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time each kernel of the graphics processor; tokens are slower then
    #[arg(long)]
    profile: bool,
    /// Try all layouts of the graphics processor's kernels first, and say how fast each is
    #[arg(long)]
    trials: bool,
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
    /// Finding out how products are computed fastest.
    tune_ms: f64,
    kv_bytes: usize,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    /// By the number of texts, those of all of them.
    together: BTreeMap<usize, Vec<f64>>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let output = match arguments.device {
        huatuo_native::Processor::Gpu => {
            let gpu = huatuo_native::gpu_with(arguments.profile)?;
            let copy_bytes_per_second = Some(pollster::block_on(gpu.copy_bandwidth())?);
            let prepare = |decoder: &mut Decoder<Gpu>| -> Result<()> {
                if arguments.trials {
                    let [submitted, done] = pollster::block_on(gpu.cost_of_a_run())?;
                    eprintln!(
                        "a run that does nothing: {:.2} µs submitted, {:.2} µs done",
                        submitted * 1e6,
                        done * 1e6
                    );
                    for trial in pollster::block_on(gpu.try_ways(&decoder.matrices(), true))? {
                        eprintln!("{:9.1} G/s  {}", trial.rate / 1e9, trial.name);
                    }
                    eprint!("{}", gpu.tuning());
                }
                huatuo_native::tune(&gpu, || pollster::block_on(decoder.tune()))
            };
            let kernel_times = |what: &str| {
                for (name, time) in gpu.kernel_times() {
                    let (total, each) = (time.seconds * 1e3, time.seconds * 1e6 / time.runs as f64);
                    eprintln!("{what} {name:18} {:6} runs {total:9.3} ms {each:9.2} µs each", time.runs);
                }
            };
            Output { copy_bytes_per_second, ..measure(arguments, gpu.clone(), gpu.name(), prepare, kernel_times)? }
        }
        huatuo_native::Processor::Cpu => {
            let cpu = match arguments.threads {
                Some(threads) => Cpu::with_threads(threads)?,
                None => huatuo_native::all_processors()?,
            };
            let name = format!("{}, {} threads", cpu.instruction_set(), cpu.threads());
            measure(arguments, cpu, name, |_| Ok(()), |_| ())?
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&output)?);
    } else {
        let Output { device, load_ms, tune_ms, kv_bytes, prefill, decode, together, .. } = &output;
        println!("{device}; loaded in {load_ms:.0} ms, tuned in {tune_ms:.0} ms; {kv_bytes} bytes of keys and values");
        println!("prefill {:.1} tokens/s, decode {:.2} tokens/s (medians)", median(prefill), median(decode));
        for (texts, rates) in together {
            println!("{texts} texts beside each other: {:.2} tokens/s (median)", median(rates));
        }
    }
    Ok(())
}

fn measure<D: Device>(
    arguments: &Arguments,
    device: D,
    name: String,
    prepare: impl FnOnce(&mut Decoder<D>) -> Result<()>,
    profiled: impl Fn(&str),
) -> Result<Output> {
    let started = Instant::now();
    let (mut decoder, _) = huatuo_native::decoder(device, &huatuo_native::ModelFile::Path(arguments.model.clone()))
        .with_context(|| format!("could not load {}", arguments.model.display()))?;
    pollster::block_on(decoder.settle())?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let most_texts = arguments.texts.iter().copied().max().unwrap_or(1);
    let most = decoder.chunk();
    anyhow::ensure!(
        arguments.texts.iter().all(|texts| (1..=most).contains(texts)),
        "--texts: {most} at most, and one at least, are written beside each other on this device"
    );
    decoder.set_texts(most_texts);
    if most_texts > 1 {
        decoder.share_caches(usize::MAX);
    }
    let started = Instant::now();
    prepare(&mut decoder)?;
    let tune_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut cache = decoder.new_cache();
    let vocabulary = decoder.vocabulary();
    let (mut prefill, mut decode, mut together, mut kv_bytes) =
        (Vec::new(), Vec::new(), BTreeMap::<usize, Vec<f64>>::new(), 0);
    for round in 0..=arguments.rounds {
        cache.truncate(0);
        let ids: Vec<u32> = (0..arguments.prefill).map(|i| ((i * 37 + 262) % vocabulary) as u32).collect();
        let started = Instant::now();
        let last = ids.len().div_ceil(decoder.chunk());
        for (i, chunk) in ids.chunks(decoder.chunk()).enumerate() {
            decoder.forward(chunk, &mut cache, i + 1 == last);
        }
        pollster::block_on(decoder.settle())?;
        let read = started.elapsed().as_secs_f64();
        profiled(&format!("round {round} prefill"));
        let started = Instant::now();
        pollster::block_on(decoder.write(&mut cache, arguments.decode))?;
        pollster::block_on(decoder.settle())?;
        let written = started.elapsed().as_secs_f64();
        profiled(&format!("round {round} decode"));
        if round > 0 {
            prefill.push(arguments.prefill as f64 / read);
            decode.push(arguments.decode as f64 / written);
        }
        kv_bytes = decoder.cache_bytes(&cache);
        for &texts in &arguments.texts {
            let mut caches: Vec<KvCache<D>> = (0..texts).map(|_| decoder.fork(&cache, arguments.prefill)).collect();
            pollster::block_on(decoder.settle())?;
            let started = Instant::now();
            pollster::block_on(write_together(&mut decoder, &mut caches, arguments.decode))?;
            let written = started.elapsed().as_secs_f64();
            profiled(&format!("round {round}, {texts} texts"));
            if round > 0 {
                together.entry(texts).or_default().push((texts * arguments.decode) as f64 / written);
            }
        }
    }
    let bytes = std::fs::metadata(&arguments.model)?.len();
    Ok(Output {
        device: name,
        bytes,
        copy_bytes_per_second: None,
        load_ms,
        tune_ms,
        kv_bytes,
        prefill,
        decode,
        together,
    })
}

/// Writes the best tokens behind several texts, one of each at a step.
async fn write_together<D: Device>(
    decoder: &mut Decoder<D>,
    caches: &mut [KvCache<D>],
    tokens: usize,
) -> Result<(), GenerateError> {
    let vocabulary = decoder.vocabulary();
    let mut last: Vec<u32> = (1..=caches.len() as u32).collect();
    let mut scores = vec![0.0; caches.len() * vocabulary];
    for _ in 0..tokens {
        let texts = caches.iter_mut().zip(&last);
        let mut readings: Vec<Reading<'_, D>> =
            texts.map(|(cache, id)| Reading { ids: std::slice::from_ref(id), cache, scored: true }).collect();
        decoder.forward_together(&mut readings);
        decoder.scores(&mut scores).await?;
        for (id, scores) in last.iter_mut().zip(scores.chunks_exact(vocabulary)) {
            let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            *id = best.map_or(0, |(best, _)| best as u32);
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
