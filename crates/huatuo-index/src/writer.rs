//! Builds an index from records, their searched texts and their vectors.
//!
//! The first version holds the corpus in memory: about twice the texts' bytes and `dimensions` + 4 bytes a vector.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::block::encode_rows;
use crate::compress::{Sealer, train};
use crate::document_length;
use crate::format::{MAX_DIMENSIONS, MAX_RECORD_BYTES, MAX_SHARDS, MAX_VECTOR_ROWS};
use crate::pack::{PackWriter, Sink};
use crate::postings::{Posting, PostingList, encode_shard};
use crate::root::{Entry, Root};
use crate::terms::{shard_of, term_keys};
use crate::vectors::{normalise, put_row, row_bytes};
use crate::{Embed, Encoder, IndexError, Kind, MANIFEST_NAME, Manifest, Record, RootLocation};

/// A block of texts is closed when it has as many bytes: what a reader pays for one record.
const TEXT_BLOCK_BYTES: usize = 32 << 10;
/// Bytes of postings a shard is meant to have: what a reader pays for a term.
const SHARD_BYTES: usize = 64 << 10;

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
}

/// Collects records and writes an index; the same records give the same bytes.
pub struct IndexWriter {
    options: IndexOptions,
    records: u32,
    total_terms: u64,
    vectors: Vec<u8>,
    lists: HashMap<u64, PostingList>,
    texts: Vec<TextBlock>,
}

/// Serialised records of one block, and the size of each.
#[derive(Default)]
struct TextBlock {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
}

impl IndexWriter {
    /// Begins an empty index.
    ///
    /// # Errors
    /// [`IndexError::Limit`] when `dimensions` is 0 or above [`MAX_DIMENSIONS`].
    pub fn new(options: IndexOptions) -> Result<Self, IndexError> {
        if !(1..=MAX_DIMENSIONS).contains(&options.dimensions) {
            let (found, limit) = (options.dimensions as u64, MAX_DIMENSIONS as u64);
            return Err(IndexError::Limit { what: "the number of dimensions (at least 1)".to_owned(), found, limit });
        }
        let (lists, texts) = (HashMap::new(), Vec::new());
        Ok(Self { options, records: 0, total_terms: 0, vectors: Vec::new(), lists, texts })
    }

    /// Adds a record as the next row, found by `searched_text` and by `vector` (`[dimensions]`, of any length).
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`], [`IndexError::NotFinite`], or [`IndexError::Limit`] for a record of more than
    /// [`MAX_RECORD_BYTES`]. A record that is refused leaves the index as it was.
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
        let row = self.records;
        let keys = term_keys(searched_text);
        self.records =
            row.checked_add(1).ok_or_else(|| limit("the index".to_owned(), usize::MAX, u64::from(u32::MAX)))?;
        self.add_terms(row, keys);
        self.add_text(&text);
        put_row(&mut self.vectors, &vector);
        Ok(())
    }

    fn add_terms(&mut self, row: u32, mut keys: Vec<u64>) {
        self.total_terms += keys.len() as u64;
        let length_byte = document_length::to_byte(keys.len() as u32);
        keys.sort_unstable();
        for same in keys.chunk_by(|a, b| a == b) {
            let posting = Posting { row, frequency: same.len() as u32, length_byte };
            self.lists.entry(same[0]).or_default().push(posting);
        }
    }

    fn add_text(&mut self, text: &[u8]) {
        if self.texts.last().is_none_or(|block| block.bytes.len() >= TEXT_BLOCK_BYTES) {
            self.texts.push(TextBlock::default());
        }
        if let Some(block) = self.texts.last_mut() {
            block.bytes.extend_from_slice(text);
            block.sizes.push(text.len());
        }
    }

    /// Writes the index to a directory, which is made if need be; other files in it are left alone.
    ///
    /// Packs come first and the manifest last, each under a temporary name until it is complete, so a reader sees the
    /// old index or the new one.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the disk fails; [`IndexError::Limit`] when a block outgrows the format.
    pub fn finish(self, directory: &Path) -> Result<Manifest, IndexError> {
        fs::create_dir_all(directory).map_err(|error| write_error(directory, &error))?;
        self.finish_to(&mut |name, content| write_file(directory, name, content))
    }

    /// Builds the index in memory, for tests and for hosts without a file system: each file's content by its name.
    ///
    /// # Errors
    /// [`IndexError::Limit`] when a block outgrows the format.
    pub fn finish_in_memory(self) -> Result<BTreeMap<String, Vec<u8>>, IndexError> {
        let mut files = BTreeMap::new();
        self.finish_to(&mut |name, content| {
            files.insert(name.to_owned(), content.to_owned());
            Ok(())
        })?;
        Ok(files)
    }

    fn finish_to<'a>(self, sink: &'a mut Sink<'a>) -> Result<Manifest, IndexError> {
        let samples: Vec<_> = self.texts.iter().map(|block| (&block.bytes[..], &block.sizes[..])).collect();
        let dictionary = train(&samples);
        let sealer = Sealer::new(dictionary.as_deref())?;
        let mut blocks = Blocks { packs: PackWriter::new(sink), sealer, entries: Vec::new() };
        self.write_vectors(&mut blocks)?;
        let shards = self.write_terms(&mut blocks)?;
        if let Some(dictionary) = dictionary {
            blocks.push(Kind::DICTIONARY, 0, 0, &dictionary)?;
        }
        self.write_texts(&mut blocks)?;
        let entries = std::mem::take(&mut blocks.entries);
        let root = Root { records: self.records, total_terms: self.total_terms, shards, entries };
        let location = blocks.push(Kind::ROOT, 0, 0, &root.encode())?;
        let (packs, sink) = blocks.packs.finish()?;
        let encoder = Encoder { name: self.options.encoder_name, sha256: self.options.encoder_sha256 };
        let sizes = (self.records, self.options.dimensions);
        let manifest = Manifest::new(sizes, self.options.embed, encoder, packs, location);
        sink(MANIFEST_NAME, &manifest.to_json()?)?;
        Ok(manifest)
    }

    fn write_vectors(&self, blocks: &mut Blocks<'_>) -> Result<(), IndexError> {
        let row_bytes = row_bytes(self.options.dimensions);
        let mut first = 0;
        for bytes in self.vectors.chunks(row_bytes * MAX_VECTOR_ROWS as usize) {
            let rows = (bytes.len() / row_bytes) as u32;
            blocks.push(Kind::VECTORS, first, rows, &encode_rows(first, rows, bytes))?;
            first += rows;
        }
        Ok(())
    }

    /// Gives the number of shards.
    fn write_terms(&self, blocks: &mut Blocks<'_>) -> Result<u32, IndexError> {
        let total: usize = self.lists.values().map(|list| list.bytes.len()).sum();
        let shards = (total / SHARD_BYTES).max(1).next_power_of_two().min(MAX_SHARDS as usize) as u32;
        let mut by_shard = vec![Vec::new(); shards as usize];
        for (key, list) in &self.lists {
            by_shard[shard_of(*key, shards) as usize].push((*key, list));
        }
        for (shard, mut lists) in (0..).zip(by_shard) {
            // A hash map has no order of its own: without this the same records would not give the same bytes.
            lists.sort_unstable_by_key(|(key, _)| *key);
            if !lists.is_empty() {
                blocks.push(Kind::TERMS, shard, lists.len() as u32, &encode_shard(shard, &lists))?;
            }
        }
        Ok(shards)
    }

    fn write_texts(&self, blocks: &mut Blocks<'_>) -> Result<(), IndexError> {
        let mut first = 0;
        for block in &self.texts {
            let rows = block.sizes.len() as u32;
            blocks.push(Kind::TEXTS, first, rows, &encode_rows(first, rows, &block.bytes))?;
            first += rows;
        }
        Ok(())
    }
}

/// Blocks on their way into packs, and the directory of those written.
struct Blocks<'a> {
    packs: PackWriter<'a>,
    sealer: Sealer,
    entries: Vec<Entry>,
}

impl Blocks<'_> {
    fn push(&mut self, kind: Kind, first: u32, count: u32, payload: &[u8]) -> Result<RootLocation, IndexError> {
        let block = self.sealer.seal(kind, payload)?;
        let (pack, offset) = self.packs.push(&block)?;
        let length = block.len() as u32; // sealing checked that it is far below 4 GiB
        self.entries.push(Entry { kind, pack, offset, length, first, count });
        Ok(RootLocation { pack, offset, length })
    }
}

fn write_file(directory: &Path, name: &str, content: &[u8]) -> Result<(), IndexError> {
    let (path, unfinished) = (directory.join(name), directory.join(format!("{name}.tmp")));
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(content)?;
        // Without this a crash could leave a complete name with an incomplete file.
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|error| write_error(&path, &error))
}

fn write_error(path: &Path, error: &std::io::Error) -> IndexError {
    IndexError::Write { path: path.display().to_string(), detail: error.to_string() }
}
