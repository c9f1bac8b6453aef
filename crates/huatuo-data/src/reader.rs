//! Reading corpora record by record, in bounded memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::{DataError, MalformedLine};
use crate::lines::{Lines, extension};
use crate::record::{Numbered, SourceRecord, parse_record};
use crate::rows::Rows;
use crate::unique_ids::UniqueIds;

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

/// Reads records; malformed lines are skipped up to `allowed` (a share of all lines, 0 to 1).
///
/// # Errors
/// Those of [`RecordReader`].
pub fn read_records(paths: &[PathBuf], allowed: f64) -> Result<Reading, DataError> {
    let mut reader = RecordReader::open(paths, allowed)?;
    let records = reader.by_ref().collect::<Result<_, _>>()?;
    Ok(Reading { records, malformed_count: reader.malformed_count, malformed: reader.malformed })
}

/// Records of JSON Lines (plain, `.gz`, `.zst`) and `.parquet` files, one at a time in the order of the files.
///
/// Memory is bounded by the longest line (4 MiB) or the largest Parquet pages, and 9.4 to 11.8 bytes a record that keep
/// ids unique: a repeated id is numbered `id#2`, `id#3`. Malformed lines are skipped, counted and, the first 20, kept.
///
/// # Errors
/// The first error is the last item: [`DataError::Read`] and [`DataError::Damaged`] for a file;
/// [`DataError::TooManyMalformed`] once all is read, earlier where all files are Parquet, whose rows are known before;
/// [`DataError::Empty`] after files that hold no record.
pub struct RecordReader {
    paths: VecDeque<PathBuf>,
    /// The file being read.
    input: Option<Input>,
    allowed: f64,
    /// Rows of all files, where their footers tell.
    total: Option<usize>,
    /// Bytes of all files, and of those that were read to their end.
    bytes: u64,
    bytes_done: u64,
    lines: usize,
    malformed: Vec<MalformedLine>,
    malformed_count: usize,
    ids: UniqueIds,
    ended: bool,
}

struct Input {
    path: PathBuf,
    /// The file's name without extensions: the source of records that name none.
    corpus: String,
    content: Content,
}

enum Content {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl RecordReader {
    /// Opens files and skips malformed lines up to `allowed_malformed` (a share of all lines, 0 to 1).
    ///
    /// # Errors
    /// [`DataError::Read`] when a file can't be opened, and for a Parquet file [`DataError::Damaged`] and
    /// [`DataError::NoQuestions`]: all files are looked at before the first is read.
    pub fn open(paths: &[PathBuf], allowed_malformed: f64) -> Result<Self, DataError> {
        let (mut total, mut bytes) = (Some(0), 0);
        for path in paths {
            bytes += size(path);
            let rows = Content::open(path)?.total();
            total = total.zip(rows).map(|(total, rows): (usize, _)| total.saturating_add(rows));
        }
        Ok(Self {
            paths: paths.to_vec().into(),
            input: None,
            allowed: allowed_malformed,
            total,
            bytes,
            bytes_done: 0,
            lines: 0,
            malformed: Vec::new(),
            malformed_count: 0,
            ids: UniqueIds::default(),
            ended: false,
        })
    }

    /// The first malformed lines met so far, at most 20.
    pub fn malformed(&self) -> &[MalformedLine] {
        &self.malformed
    }

    /// Malformed lines met so far.
    pub fn malformed_count(&self) -> usize {
        self.malformed_count
    }

    /// Lines and rows read so far, malformed ones too, blank ones not.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Share of the input's bytes read so far, 0 to 1.
    pub fn share(&self) -> f64 {
        let open = self.input.as_ref().map_or(0.0, |input| match &input.content {
            Content::Lines(lines) => lines.bytes_read() as f64,
            Content::Rows(rows) => size(&input.path) as f64 * rows.number() as f64 / rows.total().max(1) as f64,
        });
        ((self.bytes_done as f64 + open) / self.bytes.max(1) as f64).min(1.0)
    }

    fn advance(&mut self) -> Result<Option<SourceRecord>, DataError> {
        loop {
            let Some(input) = &mut self.input else {
                let Some(path) = self.paths.pop_front() else { return self.finish() };
                self.input = Some(Input { corpus: stem(&path), content: Content::open(&path)?, path });
                continue;
            };
            let Some((line, record)) = input.content.next_record(&input.corpus)? else {
                self.bytes_done += size(&input.path);
                self.input = None;
                continue;
            };
            self.lines += 1;
            match record {
                Ok(mut record) => {
                    record.id = self.ids.unique(record.id);
                    return Ok(Some(record));
                }
                Err(error) => {
                    self.malformed_count += 1;
                    if self.malformed.len() < REPORTED {
                        self.malformed.push(MalformedLine { path: input.path.clone(), line, error });
                    }
                    if let Some(total) = self.total {
                        self.check_malformed(total)?;
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Option<SourceRecord>, DataError> {
        self.check_malformed(self.lines)?;
        if self.malformed_count == self.lines { Err(DataError::Empty) } else { Ok(None) }
    }

    fn check_malformed(&mut self, lines: usize) -> Result<(), DataError> {
        if self.malformed_count as f64 <= self.allowed * lines as f64 || self.malformed.is_empty() {
            return Ok(());
        }
        let (malformed, percent, first) = (self.malformed_count, self.allowed * 100.0, self.malformed.swap_remove(0));
        Err(DataError::TooManyMalformed { malformed, lines, percent, first })
    }
}

/// Bytes of a file; a file that is gone by now is reported when it is read.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

impl Iterator for RecordReader {
    type Item = Result<SourceRecord, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Content {
    fn open(path: &Path) -> Result<Self, DataError> {
        Ok(match extension(path).as_str() {
            "parquet" => Self::Rows(Box::new(Rows::open(path)?)),
            _ => Self::Lines(Lines::open(path)?),
        })
    }

    /// Number of rows, where the file tells it before it is read.
    fn total(&self) -> Option<usize> {
        match self {
            Self::Lines(_) => None,
            Self::Rows(rows) => Some(rows.total()),
        }
    }

    fn next_record(&mut self, corpus: &str) -> Result<Option<Numbered<SourceRecord>>, DataError> {
        let fallback_id = |number| format!("{corpus}:{number}");
        Ok(match self {
            Self::Lines(lines) => lines
                .next_line()?
                .map(|(number, line)| (number, line.and_then(|line| parse_record(line, &fallback_id(number), corpus)))),
            Self::Rows(rows) => rows.next_row()?.map(|(number, fields)| {
                (number, fields.and_then(|fields| fields.into_record(&fallback_id(number), corpus)))
            }),
        })
    }
}

/// File name without `.gz`, `.zst`, `.jsonl`, `.json` and `.parquet`.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ends = [".gz", ".zst", ".jsonl", ".json", ".parquet"];
    ends.iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(&name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn records_are_given_before_the_file_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "c.jsonl", b"{\"question\":\"q\",\"answer\":\"a\"}\nx\nx\n");
        let mut reader = RecordReader::open(&[path], 0.1).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().id, "c:1");
        assert_eq!((reader.lines(), reader.malformed_count()), (1, 0));
        assert!(matches!(reader.next(), Some(Err(DataError::TooManyMalformed { malformed: 2, .. }))));
        assert!(reader.next().is_none());
    }

    #[test]
    fn only_the_first_twenty_malformed_lines_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("{}{{\"question\":\"q\",\"answer\":\"a\"}}\n", "x\n".repeat(50));
        let reading = read_records(&[write(dir.path(), "c.jsonl", text.as_bytes())], 1.0).unwrap();
        assert_eq!((reading.malformed.len(), reading.malformed_count), (20, 50));
    }

    #[test]
    fn ids_are_unique_over_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let line = b"{\"id\":\"x\",\"question\":\"q\",\"answer\":\"a\"}\n";
        let paths = [write(dir.path(), "a.jsonl", line), write(dir.path(), "b.jsonl", line)];
        let reading = read_records(&paths, 0.0).unwrap();
        let ids: Vec<_> = reading.records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["x", "x#2"]);
    }

    #[test]
    fn a_missing_file_is_told_before_the_first_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(dir.path(), "a.jsonl", b"{\"question\":\"q\",\"answer\":\"a\"}\n");
        let error = RecordReader::open(&[first, dir.path().join("missing.gz")], 0.0).err().unwrap();
        assert!(error.to_string().contains("missing.gz"));
    }

    #[test]
    fn files_without_a_record_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_records(&[write(dir.path(), "a.jsonl", b"\n")], 0.0), Err(DataError::Empty)));
    }
}
