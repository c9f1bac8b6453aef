//! Logits and greedy tokens of every decoder family equal those of PyTorch on the same weights.
//! Golden files: `python3 tests/golden/generate.py` and `families.py` beside it write tiny checkpoints and
//! `tests/golden/decoder.json`; `HUATUO_GOLDEN` names another such file.

use std::path::{Path, PathBuf};

use huatuo_compute::{Cpu, Device, Gpu, GpuOptions};
use huatuo_generate::{Decoder, Gguf, KvCache, Reading};
use pollster::block_on;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    /// Checkpoint, from the repository's root.
    model: String,
    prompt: Vec<u32>,
    /// Scores after the prompt.
    logits: Vec<f32>,
    /// The 64 tokens that greedy decoding writes.
    tokens: Vec<u32>,
    /// Largest allowed difference of a score, relative to the largest score: quantized weights multiply activations
    /// that were rounded to 8 bits, PyTorch multiplies the dequantized weights in f32.
    tolerance: f32,
    /// Whether the tokens must be equal (a random checkpoint has ties within the rounding of activations).
    same_tokens: bool,
}

fn golden() -> Vec<Golden> {
    let file =
        std::env::var_os("HUATUO_GOLDEN").map_or_else(|| root().join("tests/golden/decoder.json"), PathBuf::from);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn argmax(logits: &[f32]) -> u32 {
    let best =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best });
    best.0 as u32
}

/// How a device must agree with PyTorch.
struct Agreement {
    /// Largest difference of a score, relative to the largest one; `None` for the golden file's.
    tolerance: Option<f32>,
    /// Whether tokens must be equal even where the golden file allows ties.
    always_same_tokens: bool,
}

fn check<D: Device>(device: D, golden: &Golden, chunk: usize, agreement: &Agreement) {
    let bytes = std::fs::read(root().join(&golden.model)).unwrap();
    let mut decoder = Decoder::load(device, &Gguf::parse(&bytes).unwrap()).unwrap();
    let mut cache = decoder.new_cache();
    let mut logits = vec![0.0; decoder.vocabulary()];
    for ids in golden.prompt.chunks(chunk.min(decoder.chunk())) {
        decoder.forward(ids, &mut cache, true);
    }
    block_on(decoder.scores(&mut logits)).unwrap();
    let scale = golden.logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = logits.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
    let tolerance = agreement.tolerance.unwrap_or(golden.tolerance);
    assert!(worst <= tolerance, "{}: scores differ by {worst} (relative)", golden.model);
    if golden.same_tokens || agreement.always_same_tokens {
        let mut tokens = Vec::new();
        while tokens.len() < golden.tokens.len() {
            tokens.push(argmax(&logits));
            block_on(decoder.read(&tokens[tokens.len() - 1..], &mut cache, &mut logits)).unwrap();
        }
        assert_eq!(tokens, golden.tokens, "{}", golden.model);
    }
}

/// The same for texts that are read together, at first and at last each at another length, and that then write on together.
fn check_together<D: Device>(device: D, golden: &Golden, agreement: &Agreement) {
    const TEXTS: usize = 3;
    let bytes = std::fs::read(root().join(&golden.model)).unwrap();
    let mut decoder = Decoder::load(device, &Gguf::parse(&bytes).unwrap()).unwrap();
    decoder.set_texts(TEXTS);
    let mut caches: Vec<KvCache<D>> = (0..TEXTS).map(|_| decoder.new_cache()).collect();
    let vocabulary = decoder.vocabulary();
    let mut logits = vec![0.0; TEXTS * vocabulary];
    let prompt = &golden.prompt;
    // At first together, each to another length; the middle apart, as it may be longer than a chunk; the end together again.
    let [first, last] = [0, prompt.len() - TEXTS].map(|from| move |text: usize| from + text);
    let begin = |(text, cache)| Reading { ids: &prompt[..=first(text)], cache, scored: false };
    decoder.forward_together(&mut caches.iter_mut().enumerate().map(begin).collect::<Vec<_>>());
    for (text, cache) in caches.iter_mut().enumerate() {
        for ids in prompt[first(text) + 1..last(text)].chunks(decoder.chunk()) {
            decoder.forward(ids, cache, false);
        }
    }
    let end = |(text, cache)| Reading { ids: &prompt[last(text)..], cache, scored: true };
    decoder.forward_together(&mut caches.iter_mut().enumerate().map(end).collect::<Vec<_>>());
    block_on(decoder.scores(&mut logits)).unwrap();
    let scale = golden.logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let tolerance = agreement.tolerance.unwrap_or(golden.tolerance);
    for own in logits.chunks(vocabulary) {
        let worst = own.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
        assert!(worst <= tolerance, "{}: scores differ by {worst} (relative)", golden.model);
    }
    if golden.same_tokens || agreement.always_same_tokens {
        for written in 0..golden.tokens.len() {
            let chosen: Vec<u32> = logits.chunks(vocabulary).map(argmax).collect();
            assert_eq!(chosen, [golden.tokens[written]; TEXTS], "{}", golden.model);
            let reading = |(id, cache)| Reading { ids: std::slice::from_ref(id), cache, scored: true };
            let mut readings: Vec<Reading<'_, D>> = chosen.iter().zip(&mut caches).map(reading).collect();
            decoder.forward_together(&mut readings);
            block_on(decoder.scores(&mut logits)).unwrap();
        }
    }
}

const ON_CPU: Agreement = Agreement { tolerance: None, always_same_tokens: false };
/// Activations aren't rounded, so what is left is keys and values in half precision and the order of sums.
const ON_GPU: Agreement = Agreement { tolerance: Some(5e-3), always_same_tokens: true };

fn gpus() -> [Gpu; 2] {
    [false, true].map(|subgroups| {
        block_on(Gpu::request(&GpuOptions { subgroups, ..GpuOptions::default() }))
            .expect("an adapter; `cargo xtask test` installs Mesa's")
    })
}

#[test]
fn scores_and_greedy_tokens_equal_those_of_pytorch() {
    let golden = golden();
    assert!(golden.iter().filter(|g| g.same_tokens && g.tokens.len() == 64).count() >= 3);
    golden.iter().for_each(|golden| check(Cpu::new(), golden, usize::MAX, &ON_CPU));
}

#[test]
fn texts_that_are_read_together_do_not_change_one_another() {
    golden().iter().for_each(|golden| check_together(Cpu::new(), golden, &ON_CPU));
    let [gpu, _] = gpus();
    golden().iter().for_each(|golden| check_together(gpu.clone(), golden, &ON_GPU));
}

#[test]
fn reading_a_prompt_token_by_token_gives_the_same() {
    golden().iter().for_each(|golden| check(Cpu::new(), golden, 1, &ON_CPU));
}

#[test]
fn scores_and_greedy_tokens_on_a_gpu_equal_those_of_pytorch() {
    for gpu in gpus() {
        golden().iter().for_each(|golden| check(gpu.clone(), golden, usize::MAX, &ON_GPU));
        golden().iter().for_each(|golden| check(gpu.clone(), golden, 1, &ON_GPU));
    }
}

/// What cards may be tuned to, and devices that compute on the processor are not: they are told here.
#[test]
fn products_of_bytes_and_halves_on_a_gpu_agree_as_those_of_the_cpu_do() {
    for way in ["bytes", "halves"] {
        let [_, gpu] = gpus();
        let plan = |encoding| format!("{encoding} bytes 4096 1 1000000000 {way} 1000000000 4096\n");
        let plans = ["Q8_0", "Q4_0", "Q4K", "Q5K", "Q6K"].map(plan).concat();
        gpu.take_tuning(&format!("{}{plans}", gpu.tuning()));
        assert!(gpu.tuning().to_string().ends_with(&plans), "{way}");
        golden().iter().for_each(|golden| check(gpu.clone(), golden, usize::MAX, &ON_CPU));
    }
}
