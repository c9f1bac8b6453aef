//! Running one task in the shared folder. What tasks of a stage share is loaded once in a process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use huatuo_compute::Cpu;
use huatuo_fetch::xxh3_64;
use huatuo_index::{Part, PreparedStage, ReservedChunk, Stage, WORK_FOLDER};
use huatuo_retrieve::{ENCODER_FILES, Encoder, EncoderPrecision, ModelFiles};
use rayon::prelude::*;

use crate::ClusterError;
use crate::records::{WaitingRow, read_records};
use crate::task::{EMBED, Task};

/// Folder of the encoder's files in the work folder.
const ENCODER_FOLDER: &str = "encoder";
/// Texts that a core embeds together.
const TEXTS_TOGETHER: usize = 32;

/// What was loaded last, with what it was loaded for.
type Loaded<T> = Mutex<Option<((PathBuf, String, u64), Arc<T>)>>;

static STAGE: Loaded<PreparedStage> = Mutex::new(None);
static ENCODER: Loaded<Encoder<Cpu>> = Mutex::new(None);

/// Runs a task, unless its part is there; gives the part.
pub(crate) fn run_task(task: &Task) -> Result<Part, ClusterError> {
    let folder = Path::new(&task.folder);
    if !folder.join(WORK_FOLDER).is_dir() {
        return Err(ClusterError::NotShared { folder: folder.join(WORK_FOLDER).display().to_string() });
    }
    if task.stage == EMBED {
        return embed(folder, task);
    }
    let stage = Stage::of_name(&task.stage).ok_or_else(|| ClusterError::Process {
        process: "executor",
        detail: format!("it knows no stage {}: run the same version of huatuo everywhere", task.stage),
    })?;
    let prepared = loaded(&STAGE, task, || Ok(PreparedStage::open(folder, stage)?), PreparedStage::given)?;
    Ok(prepared.run(task.number)?)
}

/// Embeds a chunk of records.
fn embed(folder: &Path, task: &Task) -> Result<Part, ClusterError> {
    if let Some(part) = ReservedChunk::kept(task.number, folder) {
        return Ok(part);
    }
    let encoder = loaded(&ENCODER, task, || load_encoder(folder), encoder_given)?;
    let rows = read_records(folder, task.number)?;
    if rows.len() != task.rows as usize {
        return Err(ClusterError::OtherContent { what: format!("chunk {} of the records", task.number) });
    }
    let embed = |rows: &[WaitingRow]| {
        let texts: Vec<&str> = rows.iter().map(|waiting| waiting.text.as_str()).collect();
        pollster::block_on(encoder.embed_batch(&texts))
    };
    let vectors: Vec<Vec<Vec<f32>>> = rows.par_chunks(TEXTS_TOGETHER).map(embed).collect::<Result<_, _>>()?;
    let chunk = ReservedChunk { number: task.number, first: task.first, rows: task.rows };
    let vectors = vectors.iter().flatten().map(Vec::as_slice);
    Ok(chunk.keep(folder, encoder.dimensions(), rows.iter().map(|waiting| &waiting.row).zip(vectors))?)
}

/// What a stage of chunks to embed is given: the encoder's weights.
pub(crate) fn encoder_given(encoder: &Encoder<Cpu>) -> u64 {
    xxh3_64(encoder.sha256().as_bytes())
}

/// Puts the encoder where executors find it.
pub(crate) fn share_encoder(folder: &Path, files: &ModelFiles) -> Result<(), ClusterError> {
    for name in ENCODER_FILES {
        let Ok(content) = files.get(name) else { continue };
        let path = folder.join(WORK_FOLDER).join(ENCODER_FOLDER).join(name);
        if std::fs::read(&path).is_ok_and(|kept| kept == content) {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| ClusterError::file(parent, error))?;
        crate::task::write_whole(&path, content)?;
    }
    Ok(())
}

fn load_encoder(folder: &Path) -> Result<Encoder<Cpu>, ClusterError> {
    let mut files = ModelFiles::default();
    for name in ENCODER_FILES {
        let path = folder.join(WORK_FOLDER).join(ENCODER_FOLDER).join(name);
        match std::fs::read(&path) {
            Ok(content) => files.insert(name, content),
            // Loading says which of the missing files it needs.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ClusterError::file(&path, error)),
        }
    }
    Ok(Encoder::load(Cpu::new(), &files, EncoderPrecision::F32)?)
}

/// What a task shares with others of its stage: loaded by the first, which the others wait for.
fn loaded<T>(
    cell: &Loaded<T>,
    task: &Task,
    load: impl FnOnce() -> Result<T, ClusterError>,
    given: impl Fn(&T) -> u64,
) -> Result<Arc<T>, ClusterError> {
    let key = (PathBuf::from(&task.folder), task.stage.clone(), task.given);
    // What a thread that panicked left is complete or absent.
    let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, value)) = cell.as_ref().filter(|(of, _)| *of == key) {
        return Ok(Arc::clone(value));
    }
    // That of another stage is not needed any more, and may be large.
    *cell = None;
    let value = Arc::new(load()?);
    if given(&value) != task.given {
        return Err(ClusterError::OtherContent { what: format!("what the stage {} is given", task.stage) });
    }
    *cell = Some((key, Arc::clone(&value)));
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(folder: &Path, stage: &str) -> Task {
        let folder = folder.display().to_string();
        Task { folder, stage: stage.to_owned(), number: 0, given: 0, first: 0, rows: 1 }
    }

    #[test]
    fn a_folder_that_is_not_shared_and_a_stage_that_is_not_known_are_final() {
        let folder = tempfile::tempdir().unwrap();
        let error = run_task(&task(folder.path(), EMBED)).unwrap_err();
        assert!(matches!(error, ClusterError::NotShared { .. }) && !error.is_transient());
        std::fs::create_dir(folder.path().join(WORK_FOLDER)).unwrap();
        let error = run_task(&task(folder.path(), "later")).unwrap_err();
        assert!(matches!(error, ClusterError::Process { .. }) && !error.is_transient());
    }
}
