//! The client of a build: it streams records into chunks, has them embedded, and has the stages run one after another.

use std::path::{Path, PathBuf};

use huatuo_compute::Cpu;
use huatuo_index::{
    Build, IndexOptions, IndexWriter, Manifest, Part, PreparedRow, Record, ReservedChunk, Stage, TaskSizes,
};
use huatuo_retrieve::{Encoder, ModelFiles};
use rayon::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::records::{WaitingRow, records_path, write_records};
use crate::task::{EMBED, Task};
use crate::worker::{encoder_given, share_encoder};
use crate::{ClusterError, Session};

/// Chunks that are embedded in one stage, so that the disk holds few records twice. The next ones are read meanwhile.
const CHUNKS_TOGETHER: usize = 64;

/// A stage of chunks that are being embedded.
type Embedding = JoinHandle<Result<Vec<Part>, ClusterError>>;

/// Collects records like [`IndexWriter`], but has them embedded, and the index built, by a [`Session`]: the bytes are the same.
///
/// A build that was interrupted, client or cluster, goes on when it is begun again.
#[derive(Debug)]
pub struct ClusterWriter {
    writer: IndexWriter,
    session: Session,
    runtime: Runtime,
    folder: PathBuf,
    /// XXH3-64 that stands for the encoder.
    given: u64,
    open: Vec<WaitingRow>,
    waiting: Vec<Task>,
    embedding: Option<(Vec<Task>, Embedding)>,
}

impl ClusterWriter {
    /// Begins an index in a folder that the session's processes share, or takes one up.
    ///
    /// `files` are those of the encoder, which executors get through the folder.
    ///
    /// # Errors
    /// Those of [`IndexWriter::open`] and of loading the encoder.
    pub fn open(
        options: IndexOptions,
        sizes: TaskSizes,
        folder: &Path,
        files: &ModelFiles,
        encoder: &Encoder<Cpu>,
        session: Session,
    ) -> Result<Self, ClusterError> {
        let writer = IndexWriter::open_sized(options, sizes, folder)?;
        // Executors may run in other folders.
        let folder = std::path::absolute(folder).map_err(|error| ClusterError::file(folder, error))?;
        share_encoder(&folder, files)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| ClusterError::Process { process: "client", detail: error.to_string() })?;
        let given = encoder_given(encoder);
        Ok(Self { writer, session, runtime, folder, given, open: Vec::new(), waiting: Vec::new(), embedding: None })
    }

    /// Records that an interrupted build has kept: the first so many must not be added again.
    pub fn resumed(&self) -> u64 {
        self.writer.resumed()
    }

    /// Adds records, each with the text that it is found by and embedded from.
    ///
    /// # Errors
    /// [`huatuo_index::IndexError::Limit`]; [`ClusterError::File`] when the disk fails; [`ClusterError::Stage`] when records
    /// that were added before could not be embedded.
    pub fn add(&mut self, records: Vec<(Record, String)>) -> Result<(), ClusterError> {
        let prepare = |(record, text): (Record, String)| {
            let row = PreparedRow::new(&record, &text)?;
            Ok::<_, huatuo_index::IndexError>(WaitingRow { row, text })
        };
        let rows: Vec<WaitingRow> = records.into_par_iter().map(prepare).collect::<Result<_, _>>()?;
        for waiting in rows {
            let chunk = self.writer.reserve(&waiting.row)?;
            self.open.push(waiting);
            if let Some(chunk) = chunk {
                self.close(chunk)?;
            }
        }
        Ok(())
    }

    /// Embeds what is left, runs all stages and writes the index.
    ///
    /// # Errors
    /// As [`ClusterWriter::add`], and those of [`Build::finish`].
    pub fn finish(mut self) -> Result<Manifest, ClusterError> {
        if let Some(chunk) = self.writer.close_reserved() {
            self.close(chunk)?;
        }
        self.embed()?;
        self.embedded()?;
        let Self { writer, session, runtime, folder, .. } = self;
        let build = writer.complete()?;
        for stage in Stage::ALL {
            run_stage(&runtime, &session, &build, &folder, stage)?;
        }
        Ok(build.finish()?)
    }

    fn close(&mut self, chunk: ReservedChunk) -> Result<(), ClusterError> {
        let rows = std::mem::take(&mut self.open);
        write_records(&self.folder, chunk.number, &rows)?;
        self.waiting.push(Task {
            folder: self.folder.display().to_string(),
            stage: EMBED.to_owned(),
            number: chunk.number,
            given: self.given,
            first: chunk.first,
            rows: chunk.rows,
        });
        if self.waiting.len() >= CHUNKS_TOGETHER { self.embed() } else { Ok(()) }
    }

    /// Begins to embed the chunks that wait, after those before are embedded.
    fn embed(&mut self) -> Result<(), ClusterError> {
        self.embedded()?;
        let tasks = std::mem::take(&mut self.waiting);
        let (session, folder, of_stage) = (self.session.clone(), self.folder.clone(), tasks.clone());
        let holds_in = folder.clone();
        let run = async move {
            let holds = |part: &Part| {
                let chunk = of_stage.iter().map(|task| ReservedChunk::kept(task.number, &holds_in));
                chunk.flatten().any(|kept| kept == *part)
            };
            session.run(&folder, &of_stage, holds).await
        };
        self.embedding = Some((tasks, self.runtime.spawn(run)));
        Ok(())
    }

    /// Waits for the chunks that are being embedded; their records are not needed any more.
    fn embedded(&mut self) -> Result<(), ClusterError> {
        let Some((tasks, run)) = self.embedding.take() else { return Ok(()) };
        let lost =
            |error: tokio::task::JoinError| ClusterError::Process { process: "client", detail: error.to_string() };
        self.runtime.block_on(run).map_err(lost)??;
        for task in tasks {
            let path = records_path(&self.folder, task.number);
            std::fs::remove_file(&path).map_err(|error| ClusterError::file(&path, error))?;
        }
        Ok(())
    }
}

fn run_stage(
    runtime: &Runtime,
    session: &Session,
    build: &Build,
    folder: &Path,
    stage: Stage,
) -> Result<(), ClusterError> {
    let prepared = build.prepare(stage)?;
    let (given, count) = (prepared.given(), prepared.tasks());
    // What tasks share may be large: the processes that run them load it themselves.
    drop(prepared);
    let task = |number| Task {
        folder: folder.display().to_string(),
        stage: stage.name().to_owned(),
        number,
        given,
        first: 0,
        rows: 0,
    };
    let tasks: Vec<Task> = (0..count).map(task).collect();
    eprintln!("stage {}: {count} tasks", stage.name());
    runtime.block_on(session.run(folder, &tasks, |part| build.holds(part)))?;
    Ok(())
}
