//! `huatuo index`: build, add, delete, compact, verify, stat, check-host, search.

pub mod build;
mod change;
#[cfg(feature = "cluster")]
mod distributed;
mod search;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;
use huatuo_fetch::{Verdict, check_host};
use huatuo_index::Embed;
#[cfg(not(feature = "cluster"))]
use huatuo_index::TaskSizes;

use self::build::BuildOptions;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Build an index from record files; a build that was interrupted goes on where it was
    Build {
        #[command(flatten)]
        build: BuildOptions,
        /// Folder to write
        #[arg(long)]
        out: PathBuf,
        /// Which text of a record is searched
        #[arg(long, value_enum, default_value_t)]
        embed: EmbedArgument,
        #[cfg(feature = "cluster")]
        #[command(flatten)]
        distributed: distributed::DistributedOptions,
    },
    /// Send an index to an S3-compatible store; what is there already is not sent again
    #[cfg(feature = "cluster")]
    Upload {
        /// The index's folder
        folder: PathBuf,
        /// Where to, s3://bucket/folder; endpoint, region and credentials come from AWS_* variables
        url: String,
    },
    /// Add records to an index; readers of the old one go on working
    Add {
        #[command(flatten)]
        build: BuildOptions,
        /// The index's folder
        #[arg(long)]
        out: PathBuf,
    },
    /// Have records never be found again; their bytes go when the index is compacted
    Delete {
        /// The index's folder
        folder: PathBuf,
        /// Identifiers of records
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Fold what was added into one segment, without what was deleted
    Compact {
        /// The index's folder
        folder: PathBuf,
        /// Folder of the new index
        #[arg(long)]
        out: PathBuf,
    },
    /// Check every checksum and invariant of an index
    Verify {
        /// Folder or URL
        place: String,
    },
    /// Say what an index consists of
    Stat {
        /// Folder or URL
        place: String,
    },
    /// Test whether a live host serves an index as readers need it
    CheckHost {
        /// URL of the index's folder
        url: String,
    },
    /// Search an index
    Search {
        /// Folder or URL
        place: String,
        /// The question
        question: String,
        /// Results
        #[arg(long, default_value_t = 5)]
        top: usize,
        /// Folder of an encoder
        #[arg(long)]
        retriever: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `--embed` of the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum EmbedArgument {
    /// All wordings of the question
    Question,
    /// The answer
    Answer,
    /// Both
    #[default]
    Both,
}

impl From<EmbedArgument> for Embed {
    fn from(argument: EmbedArgument) -> Self {
        match argument {
            EmbedArgument::Question => Self::Question,
            EmbedArgument::Answer => Self::Answer,
            EmbedArgument::Both => Self::Both,
        }
    }
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        #[cfg(not(feature = "cluster"))]
        Command::Build { build, out, embed } => build.build(out, (*embed).into(), TaskSizes::default()),
        #[cfg(feature = "cluster")]
        Command::Build { build, out, embed, distributed } => distributed.build(build, out, (*embed).into()),
        #[cfg(feature = "cluster")]
        Command::Upload { folder, url } => distributed::upload(folder, url),
        Command::Add { build, out } => build.add(out),
        Command::Delete { folder, ids } => change::delete(folder, ids),
        Command::Compact { folder, out } => change::compact(folder, out),
        Command::Verify { place } => verify(place),
        Command::Stat { place } => change::stat(place),
        Command::CheckHost { url } => check(url),
        Command::Search { place, question, top, retriever, json } => {
            search::search(place, question, *top, retriever.as_deref(), *json)
        }
    }
}

fn verify(place: &str) -> Result<()> {
    let report = pollster::block_on(huatuo_index::verify(huatuo_native::source(place)))?;
    let huatuo_index::Report { packs, bytes, blocks, records, deleted, lists, entries, terms, postings } = report;
    println!(
        "{place} is sound: {records} records ({deleted} deleted), {lists} lists with {entries} entries, {terms} terms, \
         {postings} postings, {blocks} blocks, {packs} packs, {bytes} bytes"
    );
    Ok(())
}

fn check(url: &str) -> Result<()> {
    let report = check_host(url);
    println!("{report}");
    if report.verdict() == Verdict::Fail {
        bail!("{url} does not serve the index as readers need it");
    }
    Ok(())
}
