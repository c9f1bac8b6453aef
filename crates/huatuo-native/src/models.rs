//! Opening retrievers, indexes and generators by path, URL or default.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use huatuo_compute::{ComputeError, Cpu, Device, Gpu, GpuOptions};
use huatuo_fetch::Source;
use huatuo_generate::{
    AnyDecoder, CheckpointFiles, Decoder, DecoderLoader, GenerateError, GgufHeader, NeverPause, RecoveringGenerator,
    Reload, convert,
};
use huatuo_index::{Index, MANIFEST_NAME, Manifest};
use huatuo_retrieve::{Calibration, ENCODER_FILES, Encoder, EncoderPrecision, HybridRetriever, ModelFiles};
use memmap2::Mmap;

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

/// A generator on a device from a GGUF file or a checkpoint folder, with the `tokenizer.json` beside it or else its own tokenizer, or the default
/// one.
pub fn generator(path: Option<&Path>, device: Processor) -> Result<RecoveringGenerator<NeverPause, ModelFile>> {
    let file = path.map_or(ModelFile::Default, |path| ModelFile::Path(path.to_owned()));
    let tokenizer = file.tokenizer()?;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Debug)]
pub enum ModelFile {
    /// The one that the program carries.
    Default,
    /// A GGUF file, or a checkpoint folder with safetensors.
    Path(PathBuf),
}

impl ModelFile {
    /// The `tokenizer.json` that goes before a model file's own tokenizer: the one beside a GGUF file. That of a checkpoint folder
    /// comes with the model.
    pub fn tokenizer(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Default => Ok(Some(defaults::GENERATOR_TOKENIZER.to_vec())),
            Self::Path(path) if path.is_dir() => Ok(None),
            Self::Path(path) => {
                let path = path.with_file_name("tokenizer.json");
                let read = || std::fs::read(&path).with_context(|| format!("could not read {}", path.display()));
                path.exists().then(read).transpose()
            }
        }
    }

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
    if path.is_dir() {
        return checkpoint(device, path);
    }
    let mut file = File::open(path)?;
    let mut loader = DecoderLoader::new(device, file.metadata()?.len());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(loader.finish()?),
            read => loader.push(&piece[..read])?,
        }
    }
}

/// A decoder from a checkpoint folder (config.json, safetensors, tokenizer) in the precision that it is stored in. The header is
/// that of the GGUF file that the folder would be converted to.
fn checkpoint<D: Device>(device: D, folder: &Path) -> Result<(Decoder<D>, GgufHeader)> {
    let mapped = map_checkpoint(folder)?;
    let mut files = CheckpointFiles::default();
    mapped.iter().for_each(|(name, bytes)| files.insert(name, bytes));
    let name = folder.file_name().map_or("model".into(), |name| name.to_string_lossy());
    // The file is never whole, so its length is not known.
    let mut loading = Loading { loader: DecoderLoader::new(device, u64::MAX), refused: None };
    let converted = convert(&files, &name, files.stored()?, &mut loading);
    match loading.refused {
        Some(error) => Err(error.into()),
        None => {
            converted?;
            Ok(loading.loader.finish()?)
        }
    }
}

/// Takes a converted file as it is written.
struct Loading<D: Device> {
    loader: DecoderLoader<D>,
    refused: Option<GenerateError>,
}

impl<D: Device> Write for Loading<D> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.loader.push(bytes).map_err(|error| {
            self.refused = Some(error);
            std::io::Error::other("the network refused the weights")
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

/// Maps a file, which may be larger than memory.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("could not read {}", path.display()))?;
    // SAFETY: the mapping is read-only; like every reader of model files this one relies on nobody cutting the file
    // while it is read.
    unsafe { Mmap::map(&file) }.with_context(|| format!("could not read {}", path.display()))
}

/// Files of a checkpoint folder that conversion reads.
pub fn map_checkpoint(folder: &Path) -> Result<Vec<(String, Mmap)>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if CheckpointFiles::NAMES.contains(&name.as_str()) || name.ends_with(".safetensors") {
            files.push((name.clone(), map(&folder.join(&name))?));
        }
    }
    if files.is_empty() {
        bail!("{} holds no checkpoint: config.json and model.safetensors are needed", folder.display());
    }
    Ok(files)
}
