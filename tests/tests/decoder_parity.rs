//! Logits and greedy tokens of every decoder family equal those of PyTorch on the same weights.
//! Golden files: `python3 tests/golden/generate.py` and `families.py` beside it write tiny checkpoints and
//! `tests/golden/decoder.json`; `HUATUO_GOLDEN` names another such file.

use std::path::{Path, PathBuf};

use huatuo_compute::Cpu;
use huatuo_generate::{Decoder, Gguf};
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

fn check(golden: &Golden, chunk: usize) {
    let bytes = std::fs::read(root().join(&golden.model)).unwrap();
    let mut decoder = Decoder::load(Cpu::new(), &Gguf::parse(&bytes).unwrap()).unwrap();
    let mut cache = decoder.new_cache();
    let mut logits = vec![0.0; decoder.vocabulary()];
    for ids in golden.prompt.chunks(chunk) {
        decoder.forward(ids, &mut cache, Some(&mut logits));
    }
    let scale = golden.logits.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = logits.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
    assert!(worst <= golden.tolerance, "{}: scores differ by {worst} (relative)", golden.model);
    if golden.same_tokens {
        let mut tokens = Vec::new();
        while tokens.len() < golden.tokens.len() {
            tokens.push(argmax(&logits));
            decoder.forward(&tokens[tokens.len() - 1..], &mut cache, Some(&mut logits));
        }
        assert_eq!(tokens, golden.tokens, "{}", golden.model);
    }
}

#[test]
fn scores_and_greedy_tokens_equal_those_of_pytorch() {
    let golden = golden();
    assert!(golden.iter().filter(|g| g.same_tokens && g.tokens.len() == 64).count() >= 3);
    golden.iter().for_each(|golden| check(golden, Decoder::<Cpu>::CHUNK));
}

#[test]
fn reading_a_prompt_token_by_token_gives_the_same() {
    golden().iter().for_each(|golden| check(golden, 1));
}
