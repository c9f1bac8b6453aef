//! Opening retrievers, indexes and generators by path, URL or default.

use std::path::Path;

use anyhow::{Context, Result};
use huatuo_compute::Cpu;
use huatuo_fetch::Source;
use huatuo_generate::{LocalGenerator, NeverPause};
use huatuo_index::Index;
use huatuo_retrieve::{Calibration, ENCODER_FILES, Encoder, EncoderPrecision, HybridRetriever, ModelFiles};

use crate::defaults;

/// Files of the retriever in a folder, or of the default one.
pub fn retriever_files(folder: Option<&Path>) -> Result<ModelFiles> {
    let Some(folder) = folder else { return Ok(defaults::retriever_files()) };
    let mut files = ModelFiles::default();
    for path in ENCODER_FILES {
        match std::fs::read(folder.join(path)) {
            Ok(bytes) => files.insert(path, bytes),
            // Loading says which of the missing files it needs.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| folder.join(path).display().to_string()),
        }
    }
    Ok(files)
}

/// A retriever over an index given as folder or URL, or over the sample index.
pub fn retriever(folder: Option<&Path>, index: Option<&str>) -> Result<HybridRetriever<Cpu>> {
    let files = retriever_files(folder)?;
    let encoder = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?;
    let source = match index {
        Some(place) => source(place),
        None => Source::directory(defaults::sample_index(&encoder)?),
    };
    let index = pollster::block_on(Index::open(source))?;
    Ok(HybridRetriever::new(encoder, index, Calibration::from_files(&files)?)?)
}

/// A folder or an `http(s)` URL as a source of bytes.
pub fn source(place: &str) -> Source {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Source::http(place);
    }
    Source::directory(place)
}

/// A generator from a GGUF file, with the `tokenizer.json` beside it or else its own tokenizer, or the default one.
pub fn generator(path: Option<&Path>) -> Result<LocalGenerator<Cpu, NeverPause>> {
    let Some(path) = path else {
        let tokenizer = Some(defaults::GENERATOR_TOKENIZER);
        return Ok(LocalGenerator::load(all_processors()?, defaults::GENERATOR, tokenizer, NeverPause)?);
    };
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("could not read {}", path.display()));
    let tokenizer = path.with_file_name("tokenizer.json");
    let tokenizer = if tokenizer.exists() { Some(read(&tokenizer)?) } else { None };
    LocalGenerator::load(all_processors()?, &read(path)?, tokenizer.as_deref(), NeverPause)
        .with_context(|| format!("could not load {}", path.display()))
}

/// The CPU with a thread for each processor.
pub fn all_processors() -> Result<Cpu> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Cpu::with_threads(threads).context("could not start threads")
}
