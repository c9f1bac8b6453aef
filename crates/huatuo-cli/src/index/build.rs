//! `huatuo index build` and `add`: records read, cleaned, embedded and written, in bounded memory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use huatuo_compute::Cpu;
use huatuo_data::{Cleaner, PreparedRecord, RecordReader, SourceRecord};
use huatuo_index::{Embed, IndexWriter, MANIFEST_NAME, Manifest, TaskSizes, WORK_FOLDER};
use huatuo_native::{BATCH, BatchEncoder, add_records, options};
use huatuo_retrieve::{Encoder, EncoderPrecision};
use rayon::prelude::*;

/// What is built, and how.
#[derive(clap::Args)]
pub struct BuildOptions {
    /// Record files in any of Huatuo-26M's shapes (.jsonl, .gz, .zst, .parquet)
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Folder of an encoder
    #[arg(long)]
    retriever: Option<PathBuf>,
    /// Allowed share of malformed lines, 0 to 1
    #[arg(long, default_value_t = 0.01)]
    allow_malformed: f64,
    /// Keep records as they are: no cleaning, and repetitions stay
    #[arg(long)]
    keep_all: bool,
    /// Embed on the fastest graphics processor, through Vulkan or Metal
    #[arg(long)]
    gpu: bool,
}

impl BuildOptions {
    /// Writes a new index; a build that was interrupted goes on.
    pub fn build(&self, out: &Path, embed: Embed, sizes: TaskSizes) -> Result<()> {
        check_place(out)?;
        self.with_encoder(|encoder| {
            let options = options(encoder.dimensions(), encoder.sha256(), embed, self.described()?);
            let mut writer = IndexWriter::open_sized(options, sizes, out)?;
            self.write(&mut writer, encoder, embed)?;
            report(&writer.finish()?, out);
            Ok(())
        })
    }

    /// Folder of the encoder, if not the default one.
    #[cfg(feature = "cluster")]
    pub fn retriever(&self) -> Option<&Path> {
        self.retriever.as_deref()
    }

    /// Whether a graphics processor embeds.
    #[cfg(feature = "cluster")]
    pub fn is_on_gpu(&self) -> bool {
        self.gpu
    }

    /// Adds records to an index as a segment of its own.
    pub fn add(&self, out: &Path) -> Result<()> {
        self.with_encoder(|encoder| {
            let manifest = huatuo_native::manifest(out)?;
            if manifest.encoder.sha256 != encoder.sha256() {
                bail!("{} was built with another encoder: name its folder with --retriever", out.display());
            }
            let mut writer = IndexWriter::extend(&manifest, self.described()?, out)?;
            self.write(&mut writer, encoder, manifest.embed)?;
            report(&writer.finish()?, out);
            Ok(())
        })
    }

    fn with_encoder(&self, run: impl FnOnce(&dyn BatchEncoder) -> Result<()>) -> Result<()> {
        let files = huatuo_native::retriever_files(self.retriever.as_deref())?;
        if self.gpu {
            let gpu = huatuo_native::gpu()?;
            eprintln!("embedding on {}", gpu.name());
            run(&Encoder::load(gpu, &files, EncoderPrecision::F32)?)
        } else {
            run(&Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?)
        }
    }

    /// What tells this input from another: names and sizes of its files, and what is done with them.
    pub fn described(&self) -> Result<String> {
        let file = |path: &PathBuf| {
            let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
            Ok(format!("{} {bytes}", path.file_name().unwrap_or_default().to_string_lossy()))
        };
        let files: Vec<String> = self.input.iter().map(file).collect::<Result<_>>()?;
        Ok(format!("{}{}", files.join(", "), if self.keep_all { ", kept as they are" } else { "" }))
    }

    fn write(&self, writer: &mut IndexWriter, encoder: &dyn BatchEncoder, embed: Embed) -> Result<()> {
        self.each_batch(writer.resumed(), |records| add_records(writer, records, encoder, embed))
    }

    /// Hands on records that were read and cleaned, batch by batch, without the first ones, which are known already.
    pub fn each_batch(&self, resumed: u64, mut add: impl FnMut(&[SourceRecord]) -> Result<()>) -> Result<()> {
        let started = Instant::now();
        if resumed > 0 {
            eprintln!("going on after {resumed} records");
        }
        let mut reader = RecordReader::open(&self.input, self.allow_malformed)?;
        let (mut cleaner, mut kept) = (Cleaner::default(), 0u64);
        loop {
            let batch: Vec<SourceRecord> = reader.by_ref().take(BATCH).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                break;
            }
            let mut records = if self.keep_all { batch } else { clean(&mut cleaner, batch) };
            let known = resumed.saturating_sub(kept).min(records.len() as u64);
            kept += records.len() as u64;
            records.drain(..known as usize);
            add(&records)?;
            if !records.is_empty() {
                let (done, share) = (kept - resumed, reader.share().max(f64::MIN_POSITIVE));
                let seconds = started.elapsed().as_secs_f64();
                let left = seconds / share * (1.0 - share);
                eprintln!("{kept} records, {:.0} a second, about {left:.0} s left to read", done as f64 / seconds);
            }
        }
        for line in reader.malformed() {
            eprintln!("skipped {line}");
        }
        if reader.malformed_count() > 0 {
            eprintln!("skipped {} malformed lines of {}", reader.malformed_count(), reader.lines());
        }
        if !self.keep_all {
            eprintln!("{}", cleaner.report());
        }
        eprintln!("all records are in; writing the index");
        Ok(())
    }
}

/// Fails where no index can be begun or taken up.
pub fn check_place(out: &Path) -> Result<()> {
    if out.join(MANIFEST_NAME).exists() {
        bail!("{} holds an index: `huatuo index add` adds to it, or choose another folder", out.display());
    }
    let is_begun = out.join(WORK_FOLDER).exists();
    if !is_begun && std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: an index is written into a folder of its own", out.display());
    }
    Ok(())
}

pub fn report(manifest: &Manifest, out: &Path) {
    let bytes: u64 = manifest.packs().map(|pack| pack.bytes).sum();
    println!("{} records in {}, {bytes} bytes in {} packs", manifest.records, out.display(), manifest.packs().count());
}

fn clean(cleaner: &mut Cleaner, batch: Vec<SourceRecord>) -> Vec<SourceRecord> {
    let prepared: Vec<PreparedRecord> = batch.into_par_iter().map(PreparedRecord::new).collect();
    prepared.into_iter().filter_map(|record| cleaner.admit(record).ok()).collect()
}
