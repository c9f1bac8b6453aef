//! Collects records and writes an index of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::partition::chunk_name;
use super::rows::{Rows, encode_terms};
use super::segment_builder::{SegmentBuilder, UNFINISHED_SUFFIX, write_file};
use super::work::{Work, write_error};
use crate::format::{MAX_DIMENSIONS, MAX_RECORD_BYTES};
use crate::manifest::PACK_SUFFIX;
use crate::terms::term_keys;
use crate::varint::{Cursor, put};
use crate::vectors::{normalise, put_row};
use crate::{Embed, Encoder, IndexError, MANIFEST_NAME, Manifest, Record, SegmentEntry};

/// Rows of a chunk of input.
const CHUNK_ROWS: usize = 16_384;
/// Bytes after which a chunk is closed early.
const CHUNK_BYTES: usize = 64 << 20;
/// The part that says what a build is of.
const OPTIONS_PART: &str = "options";
/// The part that says that all records are in: how many, and in how many chunks.
const COMPLETE_PART: &str = "complete";

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
    complete: bool,
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
        if !(1..=MAX_DIMENSIONS).contains(&options.dimensions) {
            let (found, limit) = (options.dimensions as u64, MAX_DIMENSIONS as u64);
            return Err(IndexError::Limit { what: "the number of dimensions (at least 1)".to_owned(), found, limit });
        }
        Self::begin(options, folder, Vec::new())
    }

    /// Begins a segment that is added to the index in a folder, whose manifest is given.
    ///
    /// # Errors
    /// As [`IndexWriter::open`].
    pub fn extend(manifest: &Manifest, input: String, folder: &Path) -> Result<Self, IndexError> {
        let options = IndexOptions::like(manifest, format!("{input}, added to {} records", manifest.records));
        Self::begin(options, folder, manifest.segments.clone())
    }

    fn begin(options: IndexOptions, folder: &Path, before: Vec<SegmentEntry>) -> Result<Self, IndexError> {
        fs::create_dir_all(folder).map_err(|error| write_error(folder, &error))?;
        let work = Work::open(folder)?;
        let described = format!("{options:?}").into_bytes();
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
            complete: false,
            before,
        };
        writer.take_up()?;
        Ok(writer)
    }

    fn take_up(&mut self) -> Result<(), IndexError> {
        if let Some(complete) = self.work.kept(COMPLETE_PART) {
            let mut cursor = Cursor::new(&complete);
            if let (Ok(kept), Ok(chunks)) = (cursor.varint(), cursor.varint_u32()) {
                (self.kept, self.chunks, self.complete) = (kept, chunks, true);
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
    /// [`MAX_RECORD_BYTES`], or [`IndexError::Write`]. A record that is refused leaves the index as it was.
    pub fn add(&mut self, record: &Record, searched_text: &str, vector: &[f32]) -> Result<(), IndexError> {
        let expected = self.options.dimensions;
        if vector.len() != expected {
            return Err(IndexError::DimensionMismatch { expected, found: vector.len() });
        }
        let vector = normalise(vector).map_err(|position| IndexError::NotFinite { position })?;
        let mut text = Vec::new();
        record.put(&mut text);
        let limit = |what: String, found: usize, limit: u64| IndexError::Limit { what, found: found as u64, limit };
        if text.len() > MAX_RECORD_BYTES {
            return Err(limit(format!("record {}", record.id), text.len(), MAX_RECORD_BYTES as u64));
        }
        let mut row = Vec::new();
        put_row(&mut row, &vector, 1.0);
        self.add_row(&row, &text, &encode_terms(term_keys(searched_text)))
    }

    /// Adds a row whose vector, record and terms are in their stored forms.
    pub(crate) fn add_row(&mut self, vector: &[u8], record: &[u8], terms: &[u8]) -> Result<(), IndexError> {
        let before: u64 = self.before.iter().map(|segment| u64::from(segment.records)).sum();
        let id = self.kept + self.open.len() as u64;
        if before + id >= u64::from(u32::MAX) {
            return Err(IndexError::Limit {
                what: "the index".to_owned(),
                found: before + id + 1,
                limit: u64::from(u32::MAX),
            });
        }
        self.open.push(id as u32, vector, record, terms);
        if self.open.len() >= CHUNK_ROWS || self.open.bytes() >= CHUNK_BYTES {
            self.close_chunk()?;
        }
        Ok(())
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
    /// Packs come first and the manifest last, each under a temporary name until it is complete, so a reader sees the
    /// old index or the new one.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the disk fails; [`IndexError::Limit`] when a block outgrows the format.
    pub fn finish(mut self) -> Result<Manifest, IndexError> {
        if !self.complete {
            if self.open.len() > 0 {
                self.close_chunk()?;
            }
            let mut complete = Vec::new();
            put(&mut complete, self.kept);
            put(&mut complete, u64::from(self.chunks));
            self.work.keep(COMPLETE_PART, &complete)?;
        }
        let builder = SegmentBuilder {
            work: &self.work,
            folder: &self.folder,
            chunks: self.chunks,
            records: self.kept as u32, // adding checked that it fits
            dimensions: self.options.dimensions,
        };
        let segment = builder.build()?;
        let encoder = Encoder { name: self.options.encoder_name, sha256: self.options.encoder_sha256 };
        self.before.push(segment);
        let manifest = Manifest::new(self.options.dimensions, self.options.embed, encoder, self.before);
        write_file(&self.folder, MANIFEST_NAME, &manifest.to_json()?)?;
        remove_unfinished(&self.folder)?;
        self.work.remove()?;
        Ok(manifest)
    }
}

/// Removes what an interrupted build left under temporary names.
fn remove_unfinished(folder: &Path) -> Result<(), IndexError> {
    let failed = |error: std::io::Error| write_error(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_suffix(UNFINISHED_SUFFIX).is_some_and(|name| name.ends_with(PACK_SUFFIX) || name == MANIFEST_NAME)
        {
            fs::remove_file(&path).map_err(|error| write_error(&path, &error))?;
        }
    }
    Ok(())
}
