//! The folder of an unfinished build. What a stage has finished is a file there, complete or absent, so that a build that was
//! killed goes on where it was. Several processes, on several machines, may work in one folder.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use huatuo_fetch::xxh3_64;

use crate::IndexError;

/// Name of the folder of an unfinished build, inside that of the index.
pub const WORK_FOLDER: &str = ".build";
/// What a file's name ends with until it is complete.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";
/// What errors name where a part of the work folder was complete and is not any more.
const DAMAGED_PART: &str = "a part of the unfinished build";
/// Bytes of the checksum behind a file's content.
const CHECKSUM_BYTES: usize = 8;

/// A finished part of an unfinished build: a file in its work folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// File name.
    pub name: String,
    /// Bytes of its content.
    pub bytes: u64,
    /// XXH3-64 of its content.
    pub xxh3: u64,
}

impl Part {
    /// That of a content.
    pub(crate) fn of(name: String, content: &[u8]) -> Self {
        Self { name, bytes: content.len() as u64, xxh3: xxh3_64(content) }
    }
}

/// Finished parts of a build, by name.
#[derive(Clone, Debug)]
pub(crate) struct Work(PathBuf);

impl Work {
    /// Takes up the work folder of an index, or begins one.
    pub fn open(index: &Path) -> Result<Self, IndexError> {
        let folder = index.join(WORK_FOLDER);
        fs::create_dir_all(&folder).map_err(|error| write_error(&folder, &error))?;
        Ok(Self(folder))
    }

    /// Joins in a build that another process began; the folder must be there.
    pub fn join(index: &Path) -> Result<Self, IndexError> {
        let folder = index.join(WORK_FOLDER);
        match fs::metadata(&folder) {
            Ok(_) => Ok(Self(folder)),
            Err(error) => Err(write_error(&folder, &error)),
        }
    }

    /// Keeps a part: under its name there is all of it or nothing.
    pub fn keep(&self, name: &str, content: &[u8]) -> Result<(), IndexError> {
        let (path, unfinished) = (self.0.join(name), self.0.join(unfinished_name(name)));
        let checksum = xxh3_64(content).to_le_bytes();
        let write = || {
            fs::write(&unfinished, [content, &checksum].concat())?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&unfinished); // a full disk needs the room; what stays goes with the folder
            write_error(&path, &error)
        })
    }

    /// A part that was finished; nothing when it was not, or when the disk did not keep it.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let mut content = fs::read(self.0.join(name)).ok()?;
        let checksum = content.split_off(content.len().checked_sub(CHECKSUM_BYTES)?);
        (xxh3_64(&content).to_le_bytes()[..] == checksum[..]).then_some(content)
    }

    /// Whether a part is there as it was kept.
    pub fn holds(&self, part: &Part) -> bool {
        self.kept(&part.name).is_some_and(|content| Part::of(part.name.clone(), &content) == *part)
    }

    /// A part, made by `make` unless it was finished before.
    pub fn part(&self, name: &str, make: impl FnOnce() -> Result<Vec<u8>, IndexError>) -> Result<Vec<u8>, IndexError> {
        if let Some(content) = self.kept(name) {
            return Ok(content);
        }
        let content = make()?;
        self.keep(name, &content)?;
        Ok(content)
    }

    /// Some bytes of a part that was found complete before.
    pub fn slice(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, IndexError> {
        let path = self.0.join(name);
        let read = || {
            let mut file = fs::File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; length];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| write_error(&path, &error))
    }

    /// Gives a part's room back.
    pub fn drop_part(&self, name: &str) -> Result<(), IndexError> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(write_error(&path, &error)),
            _ => Ok(()),
        }
    }

    /// Ends the build: nothing of it is needed any more.
    pub fn remove(self) -> Result<(), IndexError> {
        fs::remove_dir_all(&self.0).map_err(|error| write_error(&self.0, &error))
    }
}

/// A temporary name that no other thread, process or machine takes for the same file.
fn unfinished_name(name: &str) -> String {
    static OF_PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The standard library's only source of random bits; process ids repeat from machine to machine.
    let of_process = OF_PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
    format!("{name}.{of_process:016x}-{}{UNFINISHED_SUFFIX}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Writes a file of an index under a temporary name until it is complete.
pub(crate) fn write_file(folder: &Path, name: &str, content: &[u8]) -> Result<(), IndexError> {
    let (path, unfinished) = (folder.join(name), folder.join(unfinished_name(name)));
    let write = || {
        fs::write(&unfinished, content)?;
        // Without this a crash could leave a complete name with an incomplete file.
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|error| write_error(&path, &error))
}

/// Removes what interrupted builds left under temporary names, of files whose names end with one of `endings`.
pub(crate) fn remove_unfinished(folder: &Path, endings: &[&str]) -> Result<(), IndexError> {
    let failed = |error: std::io::Error| write_error(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(UNFINISHED_SUFFIX) else { continue };
        // With what tells processes apart, or as earlier versions left it.
        let bare = name.rsplit_once('.').map_or(name, |(bare, _)| bare);
        if endings.iter().any(|ending| bare.ends_with(ending) || name.ends_with(ending)) {
            fs::remove_file(&path).map_err(|error| write_error(&path, &error))?;
        }
    }
    Ok(())
}

impl IndexError {
    /// Whether the same may succeed at another time or on another machine: the disk failed, and nothing is known to be wrong with
    /// what was read or asked for.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Write { path, .. } if path != DAMAGED_PART)
    }
}

/// A part of the work folder that was complete and is not any more.
pub(crate) fn damaged(detail: &str) -> IndexError {
    IndexError::Write {
        path: DAMAGED_PART.to_owned(),
        detail: format!("{detail}; delete its {WORK_FOLDER} folder and start again"),
    }
}

pub(crate) fn write_error(path: &Path, error: &std::io::Error) -> IndexError {
    IndexError::Write { path: path.display().to_string(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_made_once_and_made_again_when_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let work = Work::open(folder.path()).unwrap();
        assert_eq!(work.part("a", || Ok(vec![1, 2, 3])).unwrap(), [1, 2, 3]);
        assert_eq!(work.part("a", || Ok(vec![9])).unwrap(), [1, 2, 3]);
        assert_eq!(work.slice("a", 1, 2).unwrap(), [2, 3]);
        fs::write(folder.path().join(WORK_FOLDER).join("a"), [1, 2]).unwrap();
        assert_eq!(work.part("a", || Ok(vec![9])).unwrap(), [9]);
        work.drop_part("a").unwrap();
        assert!(work.kept("a").is_none());
        work.remove().unwrap();
        assert!(!folder.path().join(WORK_FOLDER).exists());
        assert!(Work::join(folder.path()).is_err());
    }

    #[test]
    fn only_unfinished_files_of_an_index_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let names = [unfinished_name("a.pack"), "b.pack.tmp".to_owned(), "notes.tmp".to_owned(), "c.pack".to_owned()];
        names.iter().for_each(|name| fs::write(folder.path().join(name), []).unwrap());
        remove_unfinished(folder.path(), &[".pack"]).unwrap();
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, false, true, true]);
    }
}
