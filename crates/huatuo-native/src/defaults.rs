//! The models and records that the program carries, so that it answers without any file beside it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use huatuo_compute::Cpu;
use huatuo_data::parse_record;
use huatuo_index::Embed;
use huatuo_retrieve::{Encoder, ModelFiles};

use crate::write_index;

macro_rules! embedded {
    ($($path:literal),* $(,)?) => { &[$(($path, include_bytes!(concat!("../../../", $path)) as &[u8])),*] };
}

const RETRIEVER: &[(&str, &[u8])] = embedded![
    "models/retriever/config.json",
    "models/retriever/tokenizer.json",
    "models/retriever/model.safetensors",
    "models/retriever/modules.json",
    "models/retriever/sentence_bert_config.json",
    "models/retriever/1_Pooling/config.json",
    "models/retriever/calibration.json",
];
const RECORDS: &[(&str, &[u8])] = embedded![
    "samples/records/consultations.jsonl",
    "samples/records/first_aid.jsonl",
    "samples/records/knowledge_graph_diseases.jsonl",
    "samples/records/knowledge_graph_drugs.jsonl",
];
/// The default generator.
pub const GENERATOR: &[u8] = include_bytes!("../../../models/generator/model.gguf");
/// Its tokenizer.
pub const GENERATOR_TOKENIZER: &[u8] = include_bytes!("../../../models/generator/tokenizer.json");

/// Files of the default retriever.
pub fn retriever_files() -> ModelFiles {
    let mut files = ModelFiles::default();
    for (path, bytes) in RETRIEVER {
        files.insert(path.trim_start_matches("models/retriever/"), bytes.to_vec());
    }
    files
}

/// Tells indexes of this layout from those that earlier builds of the program have left in the cache folder.
const LAYOUT: &[u8] = b"lists and neighbours";

/// The index of the sample records, built once for each version of records and encoder and kept in the cache folder.
pub fn sample_index(encoder: &Encoder<Cpu>) -> Result<PathBuf> {
    let all: Vec<u8> = RECORDS.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let version = &huatuo_fetch::sha256_hex(
        &[LAYOUT, all.as_slice(), encoder.sha256().as_bytes(), env!("CARGO_PKG_VERSION").as_bytes()].concat(),
    )[..16];
    let folder = cache_folder().join(format!("sample-index-{version}"));
    if folder.join("manifest.json").is_file() {
        return Ok(folder);
    }
    eprintln!("building the index of the sample records (once) in {}", folder.display());
    let mut records = Vec::new();
    for (path, bytes) in RECORDS {
        let text = std::str::from_utf8(bytes).context("the sample records are UTF-8")?;
        for line in text.lines() {
            records.push(parse_record(line, path, "huatuo-samples")?);
        }
    }
    // Built beside and renamed, so that a program that is stopped leaves no half index behind.
    let parent = folder.parent().context("the cache folder has a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("could not create {}", parent.display()))?;
    let building = tempfile::tempdir_in(parent)?;
    write_index(&records, encoder, Embed::Both, building.path())?;
    match std::fs::rename(building.path(), &folder) {
        Ok(()) => drop(building.keep()),
        Err(_) if folder.join("manifest.json").is_file() => {} // another process was faster
        Err(error) => return Err(error).with_context(|| format!("could not write {}", folder.display())),
    }
    Ok(folder)
}

/// Where it is kept how an adapter computes fastest.
pub fn tuning_file(adapter: &str) -> PathBuf {
    let name = adapter.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    cache_folder().join(format!("gpu-{name}.txt"))
}

/// Where a worker on a port leaves the key that it made up for itself.
pub fn worker_key_file(port: u16) -> PathBuf {
    cache_folder().join(format!("worker-{port}.key"))
}

/// The user's cache folder for this program.
fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("huatuo")
}
