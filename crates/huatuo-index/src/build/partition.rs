//! Dividing the rows into partitions that fit in memory, each of rows that lie close together.

use rayon::prelude::*;

use super::centroids::{Vectors, train};
use super::plan::Extent;
use super::rows::Rows;
use super::stage::{Stage, part_name};
use super::work::{Work, damaged};
use crate::IndexError;
use crate::vectors::row_bytes;

/// Rows a partition is meant to have unless its writer is told otherwise: what a thread holds in memory.
pub(crate) const PARTITION_ROWS: u64 = 65_536;
/// Up to so many times its rows, one partition has all.
const UNDIVIDED: u64 = 2;
/// The part with the partitions.
pub(crate) const PARTITIONS_PART: &str = "partitions";
/// Rows of a chunk of input that the partitions' centroids are trained with.
const SAMPLE_ROWS: usize = 512;
/// A row is a guest of further partitions that are at most this many times as far as its own, in squared distance: without them,
/// rows near a border would miss the neighbours they have beyond it.
const GUEST_RATIO: f32 = 1.15;
/// Partitions that a row is a guest of, at most.
const GUEST_PARTITIONS: usize = 3;
/// Bytes of a number in a table of offsets.
const OFFSET_BYTES: usize = 8;

/// What all partitions are made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Partitions {
    /// Mean of all vectors.
    pub mean: Vec<f32>,
    /// One row for each partition.
    centroids: Vec<u8>,
}

/// Name of a chunk of input.
pub(crate) fn chunk_name(chunk: u32) -> String {
    format!("rows-{chunk:06}")
}

fn split_name(chunk: u32) -> String {
    part_name(Stage::Split, chunk as usize)
}

impl Partitions {
    /// Trains the partitions of all chunks, of about `partition_rows` rows each.
    pub fn train(work: &Work, extent: Extent, partition_rows: u64, seed: u64) -> Result<Self, IndexError> {
        let Extent { chunks, dimensions, .. } = extent;
        let records = u64::from(extent.records);
        let read = |chunk: u32| {
            let rows = load_chunk(work, chunk)?;
            let vectors = Vectors::new(&rows.vectors, dimensions);
            let mut sum = vec![0.0f64; dimensions];
            for row in 0..vectors.len() {
                let scale = f64::from(vectors.scale(row));
                sum.iter_mut().zip(vectors.steps(row)).for_each(|(sum, step)| *sum += scale * f64::from(*step as i8));
            }
            let step = vectors.len().div_ceil(SAMPLE_ROWS).max(1);
            let sample: Vec<u8> = (0..vectors.len()).step_by(step).flat_map(|row| vectors.row(row)).copied().collect();
            Ok::<_, IndexError>((sum, sample))
        };
        let parts: Vec<_> = (0..chunks).into_par_iter().map(read).collect::<Result<_, _>>()?;
        let (mut mean, mut sample) = (vec![0.0f64; dimensions], Vec::new());
        for (sum, rows) in parts {
            mean.iter_mut().zip(sum).for_each(|(mean, sum)| *mean += sum);
            sample.extend(rows);
        }
        let mean = mean.into_iter().map(|sum| (sum / records.max(1) as f64) as f32).collect();
        let vectors = Vectors::new(&sample, dimensions);
        let members: Vec<u32> = (0..vectors.len() as u32).collect();
        let count = if records <= UNDIVIDED * partition_rows { 1 } else { records.div_ceil(partition_rows) as usize };
        let centroids = if members.is_empty() { Vec::new() } else { train(&vectors, &members, count, seed) };
        Ok(Self { mean, centroids })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mean = self.mean.iter().flat_map(|x| x.to_le_bytes());
        mean.chain(self.centroids.iter().copied()).collect()
    }

    pub fn decode(bytes: &[u8], dimensions: usize) -> Result<Self, IndexError> {
        let (mean, centroids) =
            bytes.split_at_checked(4 * dimensions).ok_or_else(|| damaged("the partitions are cut off"))?;
        let mean = mean.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
        Ok(Self { mean, centroids: centroids.to_vec() })
    }

    pub fn len(&self) -> usize {
        self.centroids.len() / row_bytes(self.mean.len())
    }

    /// Sorts a chunk's rows by their partitions; the chunk itself is given up.
    pub fn split_chunk(&self, work: &Work, chunk: u32) -> Result<Vec<u8>, IndexError> {
        let make = || Ok(self.split(&load_chunk(work, chunk)?));
        // Where the chunk is gone, another process that was given the same task may have finished it meanwhile.
        let split = match work.part(&split_name(chunk), make) {
            Ok(split) => split,
            Err(error) => work.kept(&split_name(chunk)).ok_or(error)?,
        };
        work.drop_part(&chunk_name(chunk))?;
        Ok(split)
    }

    /// Offsets of each partition's own rows and of its guests, and of the end; then those rows.
    fn split(&self, rows: &Rows) -> Vec<u8> {
        let dimensions = self.mean.len();
        let (vectors, centroids) = (Vectors::new(&rows.vectors, dimensions), Vectors::new(&self.centroids, dimensions));
        let nearest: Vec<Vec<(f32, u32)>> =
            (0..rows.len()).into_par_iter().map(|row| centroids.nearest(1 + GUEST_PARTITIONS, &vectors, row)).collect();
        let mut groups = vec![(Rows::default(), Rows::default()); self.len()];
        for (position, near) in nearest.iter().enumerate() {
            let (own, id) = (near[0], rows.ids[position]);
            groups[own.1 as usize].0.push(id, rows.vector(position), rows.record(position), rows.terms(position));
            let far = GUEST_RATIO * (2.0 - 2.0 * own.0);
            for (_, other) in near[1..].iter().take_while(|(product, _)| 2.0 - 2.0 * product <= far) {
                groups[*other as usize].1.push(id, rows.vector(position), &[], &[]);
            }
        }
        let (mut table, mut bytes) = (Vec::new(), Vec::new());
        let first = ((2 * groups.len() + 1) * OFFSET_BYTES) as u64;
        for part in groups.iter().flat_map(|(own, guests)| [own, guests]) {
            table.extend_from_slice(&(first + bytes.len() as u64).to_le_bytes());
            bytes.extend(part.encode());
        }
        table.extend_from_slice(&(first + bytes.len() as u64).to_le_bytes());
        [table, bytes].concat()
    }
}

fn load_chunk(work: &Work, chunk: u32) -> Result<Rows, IndexError> {
    Rows::decode(&work.kept(&chunk_name(chunk)).ok_or_else(|| damaged("a chunk of input is gone"))?)
}

/// The split chunks, of which each partition's rows are read.
pub(crate) struct SplitChunks<'a> {
    pub work: &'a Work,
    pub chunks: u32,
}

impl SplitChunks<'_> {
    /// A partition's own rows, in the order of the input.
    pub fn own(&self, partition: usize) -> Result<Rows, IndexError> {
        self.rows(2 * partition)
    }

    /// Rows of other partitions near its border: vectors only.
    pub fn guests(&self, partition: usize) -> Result<Rows, IndexError> {
        self.rows(2 * partition + 1)
    }

    fn rows(&self, entry: usize) -> Result<Rows, IndexError> {
        let mut rows = Rows::default();
        for chunk in 0..self.chunks {
            let name = split_name(chunk);
            let range = offsets(&self.work.slice(&name, (entry * OFFSET_BYTES) as u64, 2 * OFFSET_BYTES)?);
            let bytes = self.work.slice(&name, range[0], range[1].saturating_sub(range[0]) as usize)?;
            rows.append(&Rows::decode(&bytes)?);
        }
        Ok(rows)
    }
}

/// Numbers of a table.
pub(crate) fn offsets(bytes: &[u8]) -> Vec<u64> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    bytes.chunks_exact(OFFSET_BYTES).map(number).collect()
}
