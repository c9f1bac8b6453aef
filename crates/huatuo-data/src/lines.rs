//! Lines of a plain, gzip or zstd file, one at a time in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{DataError, FileFormat};
use crate::record::{Numbered, ParseError};

/// Longest line read, in bytes; a longer one is malformed, not memory.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// The lines of one file.
pub(crate) struct Lines {
    path: PathBuf,
    format: Option<FileFormat>,
    reader: Box<dyn BufRead + Send>,
    number: usize,
    buffer: Vec<u8>,
    read: Arc<AtomicU64>,
}

/// A file that counts what was read of it, compressed as it is.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let taken = self.file.read(buffer)?;
        self.read.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }
}

impl Lines {
    /// Opens a file; its extension, `.gz` or `.zst`, tells the compression.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |error| DataError::Read { path: path.to_owned(), error };
        let read = Arc::new(AtomicU64::new(0));
        let file = Counted { file: File::open(path).map_err(failed)?, read: read.clone() };
        let (format, reader): (_, Box<dyn BufRead + Send>) = match extension(path).as_str() {
            "gz" => (Some(FileFormat::Gzip), Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file)))),
            "zst" => {
                let decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
                (Some(FileFormat::Zstd), Box::new(BufReader::new(decoder)))
            }
            _ => (None, Box::new(BufReader::new(file))),
        };
        Ok(Self { path: path.to_owned(), format, reader, number: 0, buffer: Vec::new(), read })
    }

    /// Bytes of the file read so far, as far as its reader is ahead of the lines too.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The next line that isn't blank with its number from 1, or why it can't be used; `None` at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Numbered<&str>>, DataError> {
        loop {
            let whole = match self.fill() {
                Ok(None) => return Ok(None),
                Ok(Some(whole)) => whole,
                Err(error) => return Err(self.failed(error)),
            };
            self.number += 1;
            if !whole || !self.buffer.trim_ascii().is_empty() {
                let line = if whole { text(&self.buffer) } else { Err(ParseError::TooLong { limit: MAX_LINE }) };
                return Ok(Some((self.number, line)));
            }
        }
    }

    /// Reads a line into the buffer and says whether all of it is there; `None` at the end.
    fn fill(&mut self) -> std::io::Result<Option<bool>> {
        self.buffer.clear();
        let taken = self.reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if taken == 0 {
            return Ok(None);
        }
        let whole = taken <= MAX_LINE || self.buffer.ends_with(b"\n");
        if !whole {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(whole))
    }

    /// What decoders report carries no number of the operating system's.
    fn failed(&self, error: std::io::Error) -> DataError {
        let path = self.path.clone();
        match self.format {
            Some(format) if error.raw_os_error().is_none() => {
                DataError::Damaged { path, format, after: self.number, reason: error.to_string() }
            }
            _ => DataError::Read { path, error },
        }
    }
}

/// Lower-case extension of a file's name.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// A line without the byte order mark that some editors begin a file with.
fn text(line: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(line)
        .map(|text| text.trim_start_matches('\u{feff}'))
        .map_err(|error| ParseError::NotUtf8 { at: error.valid_up_to() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(path: &Path) -> Result<Vec<(usize, String)>, DataError> {
        let mut lines = Lines::open(path)?;
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line()? {
            found.push((number, line.map_or_else(|error| error.to_string(), |line| line.trim_end().to_owned())));
        }
        Ok(found)
    }

    #[test]
    fn blank_lines_are_passed_over_and_still_numbered() {
        let (_dir, path) = file("a.jsonl", "\u{feff}a\r\n \n\nb".as_bytes());
        assert_eq!(all(&path).unwrap(), [(1, "a".to_owned()), (4, "b".to_owned())]);
    }

    #[test]
    fn a_line_over_the_limit_is_malformed_and_the_next_is_read() {
        let mut bytes = vec![b'x'; MAX_LINE + 1];
        bytes.extend(b"\nb\n");
        let (_dir, path) = file("a.jsonl", &bytes);
        let lines = all(&path).unwrap();
        assert!(lines[0].1.contains("longer than 4194304 bytes"));
        assert_eq!(lines[1], (2, "b".to_owned()));
    }

    #[test]
    fn a_line_of_the_limit_is_read() {
        let mut bytes = vec![b'x'; MAX_LINE];
        bytes.extend(b"\n");
        let (_dir, path) = file("a.jsonl", &bytes);
        assert_eq!(all(&path).unwrap()[0].1.len(), MAX_LINE);
    }

    #[test]
    fn a_line_in_another_encoding_names_the_byte() {
        let (_dir, path) = file("a.jsonl", b"ok\nab\xb8\xd0\xc3\xb0\n");
        assert!(all(&path).unwrap()[1].1.contains("byte 2"));
    }

    #[test]
    fn files_of_several_gzip_members_or_zstd_frames_are_read_to_the_end() {
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        for (name, one, two) in
            [("a.jsonl.gz", gzip(b"a\n"), gzip(b"b\n")), ("a.jsonl.ZST", frame(b"a\n"), frame(b"b\n"))]
        {
            let (_dir, path) = file(name, &[one, two].concat());
            assert_eq!(all(&path).unwrap().len(), 2, "{name}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_says_after_which_line() {
        // Bytes that don't compress, so that the cut is well behind the first line.
        let noise: String =
            (0..60_000u64).map(|n| format!("{:x}\n", xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()))).collect();
        let zstd = zstd::encode_all(noise.as_bytes(), 1).unwrap();
        for (name, bytes, expected) in
            [("a.gz", gzip(noise.as_bytes()), FileFormat::Gzip), ("a.zst", zstd, FileFormat::Zstd)]
        {
            let (_dir, path) = file(name, &bytes[..bytes.len() - 100]);
            match all(&path) {
                Err(DataError::Damaged { format, after, .. }) => assert!(format == expected && after > 1000, "{after}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_changed_byte_in_a_gzip_file_is_found_by_its_checksum() {
        let mut bytes = gzip(b"a\n");
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        let (_dir, path) = file("a.gz", &bytes);
        assert!(matches!(all(&path), Err(DataError::Damaged { format: FileFormat::Gzip, .. })));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Lines::open(Path::new("no/such/file.jsonl")).err().unwrap();
        assert!(error.to_string().contains("no/such/file.jsonl"));
    }
}
