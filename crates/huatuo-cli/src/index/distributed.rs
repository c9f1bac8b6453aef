//! `huatuo index build` on DataFusion or Ballista, and `huatuo index upload`.

use std::path::Path;

use anyhow::{Result, bail};
use huatuo_cluster::{ClusterWriter, Session};
use huatuo_compute::Cpu;
use huatuo_data::SourceRecord;
use huatuo_index::{Embed, TaskSizes};
use huatuo_retrieve::{Encoder, EncoderPrecision, searched_text};

use huatuo_native::{index_record, options};

use super::build::{BuildOptions, check_place, report};

/// Where the stages of a build run.
#[derive(clap::Args)]
pub struct DistributedOptions {
    /// Build on a Ballista cluster, whose executors share the index's folder: df://host:port of its scheduler
    #[arg(long, conflicts_with = "datafusion")]
    scheduler: Option<String>,
    /// Run the plan of a cluster on DataFusion in this process
    #[arg(long)]
    datafusion: bool,
    /// Rows of a task, of chunks and of partitions; changes the index's bytes
    #[arg(long, hide = true)]
    task_rows: Option<u32>,
}

impl DistributedOptions {
    /// Writes a new index where these options say.
    pub fn build(&self, build: &BuildOptions, out: &Path, embed: Embed) -> Result<()> {
        let sizes = self.task_rows.map_or_else(TaskSizes::default, |rows| TaskSizes {
            chunk_rows: rows as usize,
            partition_rows: u64::from(rows),
        });
        let session = match &self.scheduler {
            Some(scheduler) => Session::ballista(scheduler)?,
            None if self.datafusion => Session::embedded(),
            None => return build.build(out, embed, sizes),
        };
        if build.is_on_gpu() {
            bail!("--gpu embeds on this machine only: leave it out, or leave out --scheduler and --datafusion");
        }
        check_place(out)?;
        let files = huatuo_native::retriever_files(build.retriever())?;
        let encoder = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?;
        let options = options(encoder.dimensions(), encoder.sha256(), embed, build.described()?);
        let mut writer = ClusterWriter::open(options, sizes, out, &files, &encoder, session)?;
        build.each_batch(writer.resumed(), |records| {
            let with_text =
                |record: &SourceRecord| (index_record(record), searched_text(embed, &record.questions, &record.answer));
            Ok(writer.add(records.iter().map(with_text).collect())?)
        })?;
        report(&writer.finish()?, out);
        Ok(())
    }
}

/// Sends an index to an object store.
pub fn upload(folder: &Path, url: &str) -> Result<()> {
    let uploaded = huatuo_cluster::upload(folder, url, std::env::vars())?;
    println!(
        "{} packs sent, {} were there already, {} bytes; the manifest is in place",
        uploaded.sent, uploaded.kept, uploaded.bytes
    );
    Ok(())
}
