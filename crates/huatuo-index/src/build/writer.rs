//! Collects records and writes an index of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::chunk::{PreparedRow, ReservedChunk, stored_vector};
use super::partition::{PARTITION_ROWS, chunk_name};
use super::plan::{Build, Extent};
use super::rows::Rows;
use super::work::{Work, write_error};
use crate::format::MAX_DIMENSIONS;
use crate::varint::Cursor;
use crate::vectors::row_bytes;
use crate::{Embed, Encoder, IndexError, Manifest, Record, SegmentEntry};

/// Rows of a chunk of input, unless the writer is told otherwise.
const CHUNK_ROWS: usize = 16_384;
/// Bytes after which a chunk is closed early.
const CHUNK_BYTES: usize = 64 << 20;
/// The part that says what a build is of.
const OPTIONS_PART: &str = "options";
/// The part that says that all records are in: how many, in how many chunks, and their dimensions.
pub(crate) const COMPLETE_PART: &str = "complete";

/// What all records of an index share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Numbers in each vector.
    pub dimensions: usize,
    /// Which text of a record its vector stands for.
    pub embed: Embed,
    /// Name of the encoder that made the vectors.
    pub encoder_name: String,
    /// SHA-256 of the encoder's weights in hexadecimal digits.
    pub encoder_sha256: String,
    /// What tells the input from another, so that an unfinished build is not taken up with other records: for example names and
    /// sizes of its files.
    pub input: String,
}

fn check_dimensions(dimensions: usize) -> Result<(), IndexError> {
    if (1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Ok(());
    }
    let (found, limit) = (dimensions as u64, MAX_DIMENSIONS as u64);
    Err(IndexError::Limit { what: "the number of dimensions (at least 1)".to_owned(), found, limit })
}

impl IndexOptions {
    /// Those of an index that is there, for other input.
    pub(crate) fn like(manifest: &Manifest, input: String) -> Self {
        Self {
            dimensions: manifest.dimensions,
            embed: manifest.embed,
            encoder_name: manifest.encoder.name.clone(),
            encoder_sha256: manifest.encoder.sha256.clone(),
            input,
        }
    }
}

/// How many rows a build's tasks take. Smaller tasks spread over more machines; they also change which rows are trained with, and so
/// the index's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSizes {
    /// Rows of a chunk of input.
    pub chunk_rows: usize,
    /// Rows a partition is meant to have: what a thread holds in memory.
    pub partition_rows: u64,
}

impl Default for TaskSizes {
    fn default() -> Self {
        Self { chunk_rows: CHUNK_ROWS, partition_rows: PARTITION_ROWS }
    }
}

/// Collects records and writes an index; the same records in the same order give the same bytes, whatever the number of threads and
/// whether or not the build was interrupted.
///
/// What was added is kept in a folder `.build` beside the packs, chunk by chunk. A writer that is made for the same folder later
/// begins with [`IndexWriter::resumed`] records, which must not be added again.
#[derive(Debug)]
pub struct IndexWriter {
    options: IndexOptions,
    folder: PathBuf,
    work: Work,
    chunks: u32,
    /// Records in finished chunks.
    kept: u64,
    open: Rows,
    /// Rows and bytes that were counted for the open chunk and are kept by others.
    reserved: (u32, usize),
    sizes: TaskSizes,
    /// Segments of the index that this one is added to.
    before: Vec<SegmentEntry>,
}

impl IndexWriter {
    /// Begins an index in a folder, which is made if need be, or takes up one that was not finished.
    ///
    /// # Errors
    /// [`IndexError::Limit`] when `dimensions` is 0 or above [`MAX_DIMENSIONS`]; [`IndexError::UnfinishedBuild`] when the folder
    /// holds an unfinished build of something else; [`IndexError::Write`] when the disk fails.
    pub fn open(options: IndexOptions, folder: &Path) -> Result<Self, IndexError> {
        Self::open_sized(options, TaskSizes::default(), folder)
    }

    /// As [`IndexWriter::open`], with tasks of other sizes.
    ///
    /// # Errors
    /// As [`IndexWriter::open`].
    pub fn open_sized(options: IndexOptions, sizes: TaskSizes, folder: &Path) -> Result<Self, IndexError> {
        check_dimensions(options.dimensions)?;
        let sizes = TaskSizes { chunk_rows: sizes.chunk_rows.max(1), partition_rows: sizes.partition_rows.max(1) };
        Self::begin(options, sizes, folder, Vec::new())
    }

    /// Begins a segment that is added to the index in a folder, whose manifest is given.
    ///
    /// # Errors
    /// As [`IndexWriter::open`].
    pub fn extend(manifest: &Manifest, input: String, folder: &Path) -> Result<Self, IndexError> {
        let options = IndexOptions::like(manifest, format!("{input}, added to {} records", manifest.records));
        Self::begin(options, TaskSizes::default(), folder, manifest.segments.clone())
    }

    fn begin(
        options: IndexOptions,
        sizes: TaskSizes,
        folder: &Path,
        before: Vec<SegmentEntry>,
    ) -> Result<Self, IndexError> {
        fs::create_dir_all(folder).map_err(|error| write_error(folder, &error))?;
        let work = Work::open(folder)?;
        let mut described = format!("{options:?}").into_bytes();
        if sizes != TaskSizes::default() {
            described.extend(format!("{sizes:?}").into_bytes());
        }
        if work.part(OPTIONS_PART, || Ok(described.clone()))? != described {
            return Err(IndexError::UnfinishedBuild { folder: folder.display().to_string() });
        }
        let mut writer = Self {
            options,
            folder: folder.to_owned(),
            work,
            chunks: 0,
            kept: 0,
            open: Rows::default(),
            reserved: (0, 0),
            sizes,
            before,
        };
        writer.take_up()?;
        Ok(writer)
    }

    fn take_up(&mut self) -> Result<(), IndexError> {
        if let Some(complete) = self.work.kept(COMPLETE_PART) {
            let mut cursor = Cursor::new(&complete);
            if let (Ok(kept), Ok(chunks)) = (cursor.varint(), cursor.varint_u32()) {
                (self.kept, self.chunks) = (kept, chunks);
                return Ok(());
            }
        }
        while let Some(chunk) = self.work.kept(&chunk_name(self.chunks)) {
            self.kept += Rows::decode(&chunk)?.len() as u64;
            self.chunks += 1;
        }
        Ok(())
    }

    /// Records that an interrupted build of the same input has kept: the first so many must not be added again.
    pub fn resumed(&self) -> u64 {
        self.kept
    }

    /// Adds a record, found by `searched_text` and by `vector` (`[dimensions]`, of any length).
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`], [`IndexError::NotFinite`], [`IndexError::Limit`] for a record of more than
    /// [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES), or [`IndexError::Write`]. A record that is refused leaves the index as it was.
    pub fn add(&mut self, record: &Record, searched_text: &str, vector: &[f32]) -> Result<(), IndexError> {
        let vector = stored_vector(vector, self.options.dimensions)?;
        let PreparedRow { record, terms } = PreparedRow::new(record, searched_text)?;
        self.add_row(&vector, &record, &terms)
    }

    /// Adds a row whose vector, record and terms are in their stored forms.
    pub(crate) fn add_row(&mut self, vector: &[u8], record: &[u8], terms: &[u8]) -> Result<(), IndexError> {
        let id = self.next_id(self.open.len())?;
        self.open.push(id, vector, record, terms);
        if self.is_full(self.open.len(), self.open.bytes()) {
            self.close_chunk()?;
        }
        Ok(())
    }

    fn is_full(&self, rows: usize, bytes: usize) -> bool {
        rows >= self.sizes.chunk_rows || bytes >= CHUNK_BYTES
    }

    /// Position of the next row, when the open chunk has so many already.
    fn next_id(&self, open: usize) -> Result<u32, IndexError> {
        let before: u64 = self.before.iter().map(|segment| u64::from(segment.records)).sum();
        let (id, limit) = (self.kept + open as u64, u64::from(u32::MAX));
        if before + id >= limit {
            return Err(IndexError::Limit { what: "the index".to_owned(), found: before + id + 1, limit });
        }
        Ok(id as u32)
    }

    /// Counts a row that is not added here but kept, with its vector, by [`ReservedChunk::keep`]; gives the chunk that it
    /// completes. All of a build's rows are added, or all are reserved.
    ///
    /// # Errors
    /// [`IndexError::Limit`] when the index would have too many rows.
    pub fn reserve(&mut self, row: &PreparedRow) -> Result<Option<ReservedChunk>, IndexError> {
        self.next_id(self.reserved.0 as usize)?;
        self.reserved.0 += 1;
        self.reserved.1 += row_bytes(self.options.dimensions) + row.record.len() + row.terms.len();
        let is_full = self.is_full(self.reserved.0 as usize, self.reserved.1);
        Ok(is_full.then(|| self.close_reserved()).flatten())
    }

    /// The last chunk of rows that were reserved, if it is not empty.
    pub fn close_reserved(&mut self) -> Option<ReservedChunk> {
        let (rows, _) = std::mem::take(&mut self.reserved);
        let chunk = ReservedChunk { number: self.chunks, first: self.kept as u32, rows };
        if rows > 0 {
            self.kept += u64::from(rows);
            self.chunks += 1;
        }
        (rows > 0).then_some(chunk)
    }

    fn close_chunk(&mut self) -> Result<(), IndexError> {
        self.work.keep(&chunk_name(self.chunks), &self.open.encode())?;
        self.kept += self.open.len() as u64;
        self.chunks += 1;
        self.open = Rows::default();
        Ok(())
    }

    /// Writes the index; other files in its folder are left alone.
    ///
    /// # Errors
    /// As [`Build::run`].
    pub fn finish(self) -> Result<Manifest, IndexError> {
        self.complete()?.run()
    }

    /// Ends the input: what is left is a plan, which may be run elsewhere too.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the disk fails.
    pub fn complete(mut self) -> Result<Build, IndexError> {
        if self.open.len() > 0 {
            self.close_chunk()?;
        }
        // Adding checked that the number of records fits.
        let extent = Extent { records: self.kept as u32, chunks: self.chunks, dimensions: self.options.dimensions };
        self.work.keep(COMPLETE_PART, &extent.encode())?;
        Ok(Build {
            folder: self.folder,
            work: self.work,
            extent,
            partition_rows: self.sizes.partition_rows,
            embed: self.options.embed,
            encoder: Encoder { name: self.options.encoder_name, sha256: self.options.encoder_sha256 },
            before: self.before,
        })
    }
}
