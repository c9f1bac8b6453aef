//! The folder of an unfinished build. What a stage has finished is a file there, complete or absent, so that a build that was
//! killed goes on where it was.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use huatuo_fetch::xxh3_64;

use crate::IndexError;

/// Name of the folder of an unfinished build, inside that of the index.
pub const WORK_FOLDER: &str = ".build";
/// Bytes of the checksum behind a file's content.
const CHECKSUM_BYTES: usize = 8;

/// Finished parts of a build, by name.
#[derive(Debug)]
pub(crate) struct Work(PathBuf);

impl Work {
    /// Takes up the work folder of an index, or begins one.
    pub fn open(index: &Path) -> Result<Self, IndexError> {
        let folder = index.join(WORK_FOLDER);
        fs::create_dir_all(&folder).map_err(|error| write_error(&folder, &error))?;
        Ok(Self(folder))
    }

    /// Keeps a part: under its name there is all of it or nothing.
    pub fn keep(&self, name: &str, content: &[u8]) -> Result<(), IndexError> {
        let (path, unfinished) = (self.0.join(name), self.0.join(format!("{name}.tmp")));
        let checksum = xxh3_64(content).to_le_bytes();
        let write = || {
            fs::write(&unfinished, [content, &checksum].concat())?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|error| write_error(&path, &error))
    }

    /// A part that was finished; nothing when it was not, or when the disk did not keep it.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let mut content = fs::read(self.0.join(name)).ok()?;
        let checksum = content.split_off(content.len().checked_sub(CHECKSUM_BYTES)?);
        (xxh3_64(&content).to_le_bytes()[..] == checksum[..]).then_some(content)
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
    }
}
