//! Opening retrievers, indexes and generators by path, URL or default.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use huatuo_compute::{ComputeError, Cpu, Device, Gpu, GpuOptions};
use huatuo_fetch::Source;
use huatuo_generate::{
    AnyDecoder, Decoder, DecoderLoader, GenerateError, GgufHeader, NeverPause, RecoveringGenerator, Reload,
};
use huatuo_index::{Index, MANIFEST_NAME, Manifest};
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
pub fn retriever(folder: Option<&Path>, index: Option<&str>) -> Result<HybridRetriever<Encoder<Cpu>>> {
    let files = retriever_files(folder)?;
    let encoder = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?;
    let source = match index {
        Some(place) => source(place),
        None => Source::directory(defaults::sample_index(&encoder)?),
    };
    let index = pollster::block_on(Index::open(source))?;
    Ok(HybridRetriever::new(encoder, index, Calibration::from_files(&files)?)?)
}

/// The manifest of an index in a folder.
pub fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST_NAME);
    let json = std::fs::read(&path).with_context(|| format!("{} holds no index", folder.display()))?;
    Ok(Manifest::parse(&json)?)
}

/// A folder or an `http(s)` URL as a source of bytes.
pub fn source(place: &str) -> Source {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Source::http(place);
    }
    Source::directory(place)
}

/// A generator on a device from a GGUF file, with the `tokenizer.json` beside it or else its own tokenizer, or the default
/// one.
pub fn generator(path: Option<&Path>, device: Processor) -> Result<RecoveringGenerator<NeverPause, ModelFile>> {
    let file = path.map_or(ModelFile::Default, |path| ModelFile::Path(path.to_owned()));
    let tokenizer = match path.map(|path| path.with_file_name("tokenizer.json")) {
        None => Some(defaults::GENERATOR_TOKENIZER.to_vec()),
        Some(path) if path.exists() => {
            Some(std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?)
        }
        Some(_) => None,
    };
    let (decoder, header) = match device {
        Processor::Cpu => file.load(all_processors()?, AnyDecoder::Cpu),
        Processor::Gpu => file.load(gpu()?, AnyDecoder::Gpu),
    }?;
    let mut generator = RecoveringGenerator::new(decoder, &header, tokenizer.as_deref(), NeverPause, file)?;
    if let Some(gpu) = generator.gpu().cloned() {
        tune(&gpu, || pollster::block_on(generator.tune()))?;
    }
    Ok(generator)
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Processor {
    /// All cores of the processor
    Cpu,
    /// The fastest graphics processor, through Vulkan or Metal
    Gpu,
}

/// The fastest graphics processor; `HUATUO_GPU`, a part of its name, chooses among several.
pub fn gpu() -> Result<Gpu> {
    gpu_with(false)
}

/// The same, with its kernels timed.
pub fn gpu_with(profile: bool) -> Result<Gpu> {
    let adapter = std::env::var("HUATUO_GPU").ok().map(|name| name.to_lowercase());
    let gpu = pollster::block_on(Gpu::request(&GpuOptions { adapter, profile, ..GpuOptions::default() }))?;
    if let Ok(kept) = std::fs::read_to_string(defaults::tuning_file(&gpu.name())) {
        gpu.take_tuning(&kept);
    }
    Ok(gpu)
}

/// Lets a graphics processor find out how it computes a model fastest, once for each adapter.
pub fn tune(gpu: &Gpu, tune: impl FnOnce() -> Result<(), GenerateError>) -> Result<()> {
    let before = gpu.tuning();
    tune()?;
    if gpu.tuning() != before {
        let path = defaults::tuning_file(&gpu.name());
        let kept = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        // Where it can't be kept, it is found out again.
        let _ = kept.and_then(|()| std::fs::write(&path, gpu.tuning().to_string()));
    }
    Ok(())
}

/// A model that can be loaded once more.
pub enum ModelFile {
    Default,
    Path(PathBuf),
}

impl ModelFile {
    /// Brings the model to a device piece by piece.
    fn load<D: Device>(
        &self,
        device: D,
        wrap: impl FnOnce(Decoder<D>) -> AnyDecoder,
    ) -> Result<(AnyDecoder, GgufHeader)> {
        let path = match self {
            Self::Default => "the default model".to_owned(),
            Self::Path(path) => path.display().to_string(),
        };
        let (decoder, header) = decoder(device, self).with_context(|| format!("could not load {path}"))?;
        Ok((wrap(decoder), header))
    }
}

/// A decoder with the header of its file.
pub fn decoder<D: Device>(device: D, file: &ModelFile) -> Result<(Decoder<D>, GgufHeader)> {
    const PIECE_BYTES: usize = 4 << 20;
    let ModelFile::Path(path) = file else {
        let mut loader = DecoderLoader::new(device, defaults::GENERATOR.len() as u64);
        loader.push(defaults::GENERATOR)?;
        return Ok(loader.finish()?);
    };
    let mut file = std::fs::File::open(path)?;
    let mut loader = DecoderLoader::new(device, file.metadata()?.len());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(loader.finish()?),
            read => loader.push(&piece[..read])?,
        }
    }
}

impl Reload for ModelFile {
    async fn reload(&mut self, losses: usize) -> Result<AnyDecoder, GenerateError> {
        const MOST_GPUS: usize = 3; // one that is lost again and again is not worth waiting for
        let lost = |error: anyhow::Error| {
            eprintln!("{error:#}");
            GenerateError::from(ComputeError::DeviceLost)
        };
        if losses < MOST_GPUS
            && let Ok(gpu) = gpu()
            && let Ok((decoder, _)) = self.load(gpu, AnyDecoder::Gpu)
        {
            return Ok(decoder);
        }
        let cpu = all_processors().map_err(lost)?;
        self.load(cpu, AnyDecoder::Cpu).map(|(decoder, _)| decoder).map_err(lost)
    }
}

/// The CPU with a thread for each processor.
pub fn all_processors() -> Result<Cpu> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Cpu::with_threads(threads).context("could not start threads")
}
