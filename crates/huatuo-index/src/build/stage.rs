//! The stages of a build and their tasks. A task reads parts of the work folder and leaves one; it may be run twice, or by two
//! processes at once, and leaves the same bytes.

use std::path::{Path, PathBuf};

use huatuo_fetch::xxh3_64;

use super::assemble::{Numbering, packs_of};
use super::cells::write_cells;
use super::centroids::Vectors;
use super::cluster::{Clusters, cluster};
use super::order::{FIRSTS_PART, ORDER_PART, Order, decode_numbers};
use super::partition::{PARTITIONS_PART, Partitions, SplitChunks};
use super::partition_packs::Shared;
use super::plan::{DICTIONARY_PART, Extent, NUMBERING_PART, SEED};
use super::term_packs::{BUCKETS, merge_bucket, sort_terms};
use super::work::{Part, Work, damaged, write_file};
use crate::IndexError;
use crate::bm25::Corpus;
use crate::rabitq::Rotation;

/// Rows a node is meant to have, in an index whose root stays small anyway.
const NODE_ROWS: u64 = 448;
/// Most nodes a root is meant to have, so that a browser holds it in a few megabytes.
const MOST_NODES: u64 = 40_000;
/// Neighbours of a row.
pub(crate) const NEIGHBOURS: u32 = 16;

/// A stage of a build: tasks that don't depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Sorts each chunk's rows by partition.
    Split,
    /// Puts each partition in order: nodes, lists, guests, neighbours.
    Cluster,
    /// Sorts each partition's terms.
    SortTerms,
    /// Packs each partition's texts and lists.
    Pack,
    /// Merges each bucket of terms over all partitions.
    MergeTerms,
    /// Packs each partition's cells.
    Cells,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [Self::Split, Self::Cluster, Self::SortTerms, Self::Pack, Self::MergeTerms, Self::Cells];

    /// A name for tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Cluster => "cluster",
            Self::SortTerms => "sort-terms",
            Self::Pack => "pack",
            Self::MergeTerms => "merge-terms",
            Self::Cells => "cells",
        }
    }

    /// The stage of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Parts that every task reads whole.
    fn given(self) -> &'static [&'static str] {
        match self {
            Self::Split | Self::Cluster => &[PARTITIONS_PART],
            Self::SortTerms => &[FIRSTS_PART],
            Self::Pack => &[PARTITIONS_PART, FIRSTS_PART, ORDER_PART, DICTIONARY_PART],
            Self::MergeTerms => &[FIRSTS_PART, NUMBERING_PART],
            Self::Cells => &[FIRSTS_PART, ORDER_PART, NUMBERING_PART],
        }
    }
}

/// A stage with all that its tasks share, in memory: of eight bytes a record at most.
#[derive(Debug)]
pub struct PreparedStage {
    stage: Stage,
    folder: PathBuf,
    work: Work,
    extent: Extent,
    given: u64,
    partitions: Partitions,
    firsts: Vec<u32>,
    order: Order,
    dictionary: Vec<u8>,
    numbering: Numbering,
    rotation: Option<Rotation>,
}

impl PreparedStage {
    /// Takes up a stage of the unfinished build in a folder, which [`Build::prepare`](super::Build::prepare) has prepared, maybe in
    /// another process.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the folder is not there, or lacks what the stage is given.
    pub fn open(folder: &Path, stage: Stage) -> Result<Self, IndexError> {
        let work = Work::join(folder)?;
        let extent = Extent::read(&work)?;
        let mut opened = Self {
            stage,
            folder: folder.to_owned(),
            work,
            extent,
            given: 0,
            partitions: Partitions::default(),
            firsts: Vec::new(),
            order: Order::default(),
            dictionary: Vec::new(),
            numbering: Numbering::default(),
            rotation: (stage == Stage::Pack).then(|| Rotation::new(extent.dimensions, SEED)),
        };
        let mut hashes = xxh3_64(&extent.encode()).to_le_bytes().to_vec();
        for name in stage.given() {
            let part = opened.work.kept(name).ok_or_else(|| damaged(&format!("{name} is gone")))?;
            hashes.extend_from_slice(&xxh3_64(&part).to_le_bytes());
            opened.take(name, part)?;
        }
        opened.given = xxh3_64(&hashes);
        Ok(opened)
    }

    fn take(&mut self, name: &str, part: Vec<u8>) -> Result<(), IndexError> {
        match name {
            PARTITIONS_PART => self.partitions = Partitions::decode(&part, self.extent.dimensions)?,
            FIRSTS_PART => self.firsts = decode_numbers(&part),
            ORDER_PART => self.order = Order::decode(&part, self.extent.records)?,
            NUMBERING_PART => self.numbering = Numbering::decode(&part)?,
            _ => self.dictionary = part,
        }
        Ok(())
    }

    /// XXH3-64 that tells what the stage is given from what another build's is.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Number of tasks.
    pub fn tasks(&self) -> u32 {
        match self.stage {
            Stage::Split => self.extent.chunks,
            Stage::Cluster => self.partitions.len() as u32,
            Stage::MergeTerms => BUCKETS as u32,
            Stage::SortTerms | Stage::Pack | Stage::Cells => self.firsts.len() as u32,
        }
    }

    /// Runs a task, unless its part is there; gives the part.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the disk fails or has lost a part; [`IndexError::Limit`] when a block outgrows the format.
    pub fn run(&self, task: u32) -> Result<Part, IndexError> {
        if task >= self.tasks() {
            return Err(damaged(&format!("the stage {} has no task {task}", self.stage.name())));
        }
        let number = task as usize;
        let name = part_name(self.stage, number);
        let content = match self.stage {
            Stage::Split => self.partitions.split_chunk(&self.work, task)?,
            Stage::Cluster => self.work.part(&name, || self.cluster(number))?,
            Stage::SortTerms => self.work.part(&name, || {
                sort_terms(&self.split().own(number)?, &clusters_of(&self.work, number)?, self.firsts[number])
            })?,
            Stage::Pack => self.work.part(&name, || self.pack(number))?,
            Stage::MergeTerms => self.work.part(&name, || self.merge(number))?,
            Stage::Cells => self.work.part(&name, || self.cells(number))?,
        };
        Ok(Part::of(name, &content))
    }

    fn split(&self) -> SplitChunks<'_> {
        SplitChunks { work: &self.work, chunks: self.extent.chunks }
    }

    fn cluster(&self, partition: usize) -> Result<Vec<u8>, IndexError> {
        let node_rows = NODE_ROWS.max(u64::from(self.extent.records) / MOST_NODES) as usize;
        let split = self.split();
        let (own, guests) = (split.own(partition)?, split.guests(partition)?);
        let all = [own.vectors.as_slice(), &guests.vectors].concat();
        let vectors = Vectors::new(&all, self.extent.dimensions);
        Ok(cluster(&vectors, own.len(), node_rows, NEIGHBOURS as usize, SEED).encode())
    }

    fn pack(&self, partition: usize) -> Result<Vec<u8>, IndexError> {
        let Some(rotation) = &self.rotation else { return Err(damaged("the stage has no rotation")) };
        let sink = |name: &str, content: &[u8]| write_file(&self.folder, name, content);
        let shared = Shared {
            dimensions: self.extent.dimensions,
            rotation,
            mean: &self.partitions.mean,
            dictionary: (!self.dictionary.is_empty()).then_some(&self.dictionary),
            order: &self.order,
            sink: &sink,
        };
        let split = self.split();
        let clusters = clusters_of(&self.work, partition)?;
        Ok(shared.write(&split.own(partition)?, &split.guests(partition)?, &clusters)?.encode())
    }

    fn merge(&self, bucket: usize) -> Result<Vec<u8>, IndexError> {
        let names: Vec<String> =
            (0..self.firsts.len()).map(|partition| part_name(Stage::SortTerms, partition)).collect();
        let corpus = Corpus { records: self.extent.records, total_terms: self.numbering.total_terms };
        merge_bucket(&self.work, &names, bucket, corpus)
    }

    fn cells(&self, partition: usize) -> Result<Vec<u8>, IndexError> {
        let out = packs_of(&self.work, partition)?;
        let first_pack =
            self.numbering.first_packs.get(partition).ok_or_else(|| damaged("a partition has no packs"))?.0;
        let sink = |name: &str, content: &[u8]| write_file(&self.folder, name, content);
        let (split, clusters) = (self.split(), clusters_of(&self.work, partition)?);
        write_cells(&split, partition, &clusters, (&out, first_pack), &self.order, self.extent.dimensions, &sink)
    }
}

/// Name of the part that a task leaves.
pub(crate) fn part_name(stage: Stage, number: usize) -> String {
    match stage {
        Stage::Split => format!("split-{number:06}"),
        Stage::Cluster => format!("clusters-{number:05}"),
        Stage::SortTerms => format!("terms-{number:05}"),
        Stage::Pack => format!("packs-{number:05}"),
        Stage::MergeTerms => format!("terms-of-{number:03}"),
        Stage::Cells => format!("cells-{number:05}"),
    }
}

/// A partition as it was put in order.
pub(crate) fn clusters_of(work: &Work, partition: usize) -> Result<Clusters, IndexError> {
    let part = work.kept(&part_name(Stage::Cluster, partition)).ok_or_else(|| damaged("a partition is gone"))?;
    Clusters::decode(&part)
}
