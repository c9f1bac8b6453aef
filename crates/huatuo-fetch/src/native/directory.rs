//! Reading files of a directory, on the caller's thread.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use crate::reply::check_body;
use crate::{FetchError, Source};

impl Source {
    /// Files in a directory of the file system.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::in_directory(Directory(path.into()))
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
        let path = self.0.join(name);
        let location = path.display().to_string();
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => FetchError::NotFound { location: location.clone() },
            _ => FetchError::Io { path: location.clone(), detail: error.to_string() },
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        match &range {
            None => file.read_to_end(&mut bytes).map_err(failed)?,
            Some(range) => {
                file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
                let read = file.take(range.end - range.start).read_to_end(&mut bytes).map_err(failed)?;
                check_body(&location, read as u64, Some(range))?;
                read
            }
        };
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    #[test]
    fn a_directory_is_read_whole_and_by_ranges() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.bin"), b"0123456789").unwrap();
        let source = Source::directory(folder.path());
        assert_eq!(block_on(source.read("a.bin", None)).unwrap(), b"0123456789");
        assert_eq!(block_on(source.read("a.bin", Some(3..5))).unwrap(), b"34");
        assert!(matches!(block_on(source.read("a.bin", Some(8..12))), Err(FetchError::Truncated { found: 2, .. })));
        assert!(matches!(block_on(source.read("b.bin", None)), Err(FetchError::NotFound { .. })));
        assert!(matches!(block_on(source.read("../a.bin", None)), Err(FetchError::BadName { .. })));
    }
}
