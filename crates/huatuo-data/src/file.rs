//! Reading JSON Lines files, plain, gzip or zstd.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::record::{ParseError, Query, SourceRecord, parse_record};

/// Longest line read, in bytes; a longer one is malformed, not memory.
const MAX_LINE: usize = 4 << 20;
/// Malformed lines reported one by one; the rest is only counted.
const REPORTED: usize = 20;

/// Records of some files and what was skipped.
#[derive(Debug, Default)]
pub struct Reading {
    /// Records in the order of the files, ids made unique.
    pub records: Vec<SourceRecord>,
    /// The first malformed lines.
    pub malformed: Vec<MalformedLine>,
    /// All malformed lines.
    pub malformed_count: usize,
}

/// A line that was skipped.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{}:{line}: {error}", path.display())]
pub struct MalformedLine {
    /// The file.
    pub path: PathBuf,
    /// Line number from 1.
    pub line: usize,
    /// What is wrong.
    pub error: ParseError,
}

/// Why files can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused, or the compressed stream is damaged.
    #[error("{}: {error}: check the path and that the file is complete", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// Not zstd, or a damaged frame.
    #[error("{}: not a readable zstd file: {reason}", path.display())]
    Zstd {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// More malformed lines than allowed.
    #[error("{malformed} of {lines} lines are malformed, more than the allowed {percent} %; the first: {first}")]
    TooManyMalformed {
        /// Malformed lines.
        malformed: usize,
        /// All lines.
        lines: usize,
        /// Allowed share in percent.
        percent: f64,
        /// The first of them.
        first: MalformedLine,
    },
    /// A query line is no query.
    #[error("{}:{line}: not a query: {reason}; expected {{\"question\": …, \"id\": …}}", path.display())]
    Query {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No record in any file.
    #[error("the input holds no record")]
    Empty,
}

/// Reads records; malformed lines are skipped up to `allowed` (a share of all lines, 0 to 1).
pub fn read_records(paths: &[PathBuf], allowed: f64) -> Result<Reading, DataError> {
    let mut reading = Reading::default();
    let mut lines = 0;
    for path in paths {
        let corpus = stem(path);
        each_line(path, |number, line| {
            lines += 1;
            let parsed = line.map_or_else(
                || Err(ParseError::Json(format!("longer than {MAX_LINE} bytes or not UTF-8"))),
                |line| parse_record(line, &format!("{corpus}:{number}"), &corpus),
            );
            match parsed {
                Ok(record) => reading.records.push(record),
                Err(error) => {
                    reading.malformed_count += 1;
                    if reading.malformed.len() < REPORTED {
                        reading.malformed.push(MalformedLine { path: path.clone(), line: number, error });
                    }
                }
            }
            Ok(())
        })?;
    }
    if reading.malformed_count as f64 > allowed * lines as f64 {
        let first = reading.malformed.swap_remove(0);
        return Err(DataError::TooManyMalformed {
            malformed: reading.malformed_count,
            lines,
            percent: allowed * 100.0,
            first,
        });
    }
    if reading.records.is_empty() {
        return Err(DataError::Empty);
    }
    make_ids_unique(&mut reading.records);
    Ok(reading)
}

/// Reads `{"question", "id"}` lines; every line must be one.
pub fn read_queries(path: &Path) -> Result<Vec<Query>, DataError> {
    let mut queries = Vec::new();
    each_line(path, |number, line| {
        let error = |reason: String| DataError::Query { path: path.to_owned(), line: number, reason };
        let line = line.ok_or_else(|| error("too long or not UTF-8".to_owned()))?;
        queries.push(serde_json::from_str(line).map_err(|e| error(e.to_string()))?);
        Ok(())
    })?;
    Ok(queries)
}

fn each_line(path: &Path, mut each: impl FnMut(usize, Option<&str>) -> Result<(), DataError>) -> Result<(), DataError> {
    let failed = |error| DataError::Read { path: path.to_owned(), error };
    let mut reader = open(path)?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let taken = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line).map_err(failed)?;
        if taken == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n") || taken < MAX_LINE;
        if !whole {
            skip_line(&mut reader).map_err(failed)?;
        }
        match std::str::from_utf8(&line) {
            Ok(text) if whole && text.trim().is_empty() => {}
            Ok(text) if whole => each(number, Some(text.trim_start_matches('\u{feff}')))?,
            _ => each(number, None)?,
        }
    }
    Ok(())
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&b| b == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() || used == 0 {
            return Ok(());
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, DataError> {
    let file = File::open(path).map_err(|error| DataError::Read { path: path.to_owned(), error })?;
    Ok(match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        Some("zst") => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(file))
                .map_err(|error| DataError::Zstd { path: path.to_owned(), reason: error.to_string() })?;
            Box::new(BufReader::new(decoder))
        }
        _ => Box::new(BufReader::new(file)),
    })
}

/// File name without `.gz`, `.zst`, `.jsonl` and `.json`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [".gz", ".zst", ".jsonl", ".json"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(&name).to_owned())
}

/// A repeated id gets a number, so that each record can be told from the others.
fn make_ids_unique(records: &mut [SourceRecord]) {
    let mut seen = HashSet::new();
    for record in records {
        let base = record.id.clone();
        let mut copy = 1;
        while !seen.insert(record.id.clone()) {
            copy += 1;
            record.id = format!("{base}#{copy}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn malformed_lines_are_skipped_counted_and_located() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"question\":\"q\",\"answer\":\"a\"}\nnot json\n\n{\"question\":\"q2\",\"answer\":\"a\"}\n";
        let path = write(dir.path(), "c.jsonl", text.as_bytes());
        let reading = read_records(std::slice::from_ref(&path), 0.5).unwrap();
        assert_eq!((reading.records.len(), reading.malformed_count), (2, 1));
        assert!(reading.malformed[0].to_string().contains("c.jsonl:2"));
        assert!(matches!(read_records(&[path], 0.1), Err(DataError::TooManyMalformed { malformed: 1, lines: 3, .. })));
    }

    #[test]
    fn gzip_and_zstd_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let line = b"{\"id\":\"x\",\"question\":\"q\",\"answer\":\"a\"}\n";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(line).unwrap();
        let gz = write(dir.path(), "a.jsonl.gz", &gz.finish().unwrap());
        let zst = ruzstd::encoding::compress_to_vec(&line[..], ruzstd::encoding::CompressionLevel::Fastest);
        let zst = write(dir.path(), "b.jsonl.zst", &zst);
        let reading = read_records(&[gz, zst], 0.0).unwrap();
        let ids: Vec<_> = reading.records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["x", "x#2"]);
    }

    #[test]
    fn a_damaged_gzip_file_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "a.jsonl.gz", b"\x1f\x8b\x08nonsense");
        assert!(read_records(&[path], 0.0).unwrap_err().to_string().contains("a.jsonl.gz"));
    }
}
