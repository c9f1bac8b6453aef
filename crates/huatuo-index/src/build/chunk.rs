//! Rows of a chunk whose vectors other processes make: what they need of the records, and how they keep what they have made.

use std::path::Path;

use super::partition::chunk_name;
use super::rows::{Rows, encode_terms};
use super::work::{Part, Work};
use crate::format::MAX_RECORD_BYTES;
use crate::terms::term_keys;
use crate::vectors::{normalise, put_row};
use crate::{IndexError, Record};

/// A record and the terms it is found by, in the forms they are stored in; only its vector is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedRow {
    /// The record.
    pub record: Vec<u8>,
    /// Its terms.
    pub terms: Vec<u8>,
}

impl PreparedRow {
    /// Prepares a record that is found by `searched_text`.
    ///
    /// # Errors
    /// [`IndexError::Limit`] for a record of more than [`MAX_RECORD_BYTES`].
    pub fn new(record: &Record, searched_text: &str) -> Result<Self, IndexError> {
        let mut text = Vec::new();
        record.put(&mut text);
        if text.len() > MAX_RECORD_BYTES {
            let (found, limit) = (text.len() as u64, MAX_RECORD_BYTES as u64);
            return Err(IndexError::Limit { what: format!("record {}", record.id), found, limit });
        }
        Ok(Self { record: text, terms: encode_terms(term_keys(searched_text)) })
    }
}

/// A vector as rows store it.
pub(crate) fn stored_vector(vector: &[f32], dimensions: usize) -> Result<Vec<u8>, IndexError> {
    if vector.len() != dimensions {
        return Err(IndexError::DimensionMismatch { expected: dimensions, found: vector.len() });
    }
    let vector = normalise(vector).map_err(|position| IndexError::NotFinite { position })?;
    let mut row = Vec::new();
    put_row(&mut row, &vector, 1.0);
    Ok(row)
}

/// A chunk of rows that [`IndexWriter::reserve`](super::IndexWriter::reserve) has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedChunk {
    /// Number of the chunk.
    pub number: u32,
    /// Position of its first row in the input.
    pub first: u32,
    /// Number of its rows.
    pub rows: u32,
}

impl ReservedChunk {
    /// The part of an unfinished build with this chunk, if it was kept.
    pub fn kept(number: u32, folder: &Path) -> Option<Part> {
        let name = chunk_name(number);
        let content = Work::join(folder).ok()?.kept(&name)?;
        Some(Part::of(name, &content))
    }

    /// Keeps the chunk's rows with their vectors (`[dimensions]` each) in an unfinished build, as the writer itself would.
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`], [`IndexError::NotFinite`], and [`IndexError::Write`] when the folder is not there or the
    /// disk fails.
    pub fn keep<'a>(
        self,
        folder: &Path,
        dimensions: usize,
        rows: impl Iterator<Item = (&'a PreparedRow, &'a [f32])>,
    ) -> Result<Part, IndexError> {
        let work = Work::join(folder)?;
        let mut chunk = Rows::default();
        for ((row, vector), id) in rows.zip(self.first..) {
            chunk.push(id, &stored_vector(vector, dimensions)?, &row.record, &row.terms);
        }
        let (name, content) = (chunk_name(self.number), chunk.encode());
        work.keep(&name, &content)?;
        Ok(Part::of(name, &content))
    }
}
