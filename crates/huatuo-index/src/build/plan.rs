//! The plan of a build after all records are in: stages of tasks that need not know of each other, and the single steps between.
//! One machine runs it with its threads; several run it in a folder that they share.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::assemble::{Numbering, assemble};
use super::compress::{SAMPLE_BYTES, train};
use super::order::{FIRSTS_PART, ORDER_PART, Order};
use super::partition::{PARTITIONS_PART, Partitions, SplitChunks};
use super::stage::{PreparedStage, Stage};
use super::work::{Part, Work, damaged, remove_unfinished, write_file};
use super::writer::COMPLETE_PART;
use crate::manifest::PACK_SUFFIX;
use crate::varint::{Cursor, put};
use crate::{Embed, Encoder, IndexError, MANIFEST_NAME, Manifest, SegmentEntry};

/// Seed of all that is random in a build: the letters of the name.
pub(crate) const SEED: u64 = 0x6875_6174_756f;
/// Partitions that the dictionary's samples are taken from at most.
const DICTIONARY_PARTITIONS: usize = 32;
/// The part with the dictionary for texts; empty when none is worth its request.
pub(crate) const DICTIONARY_PART: &str = "dictionary";
/// The part with the numbers of partitions' packs.
pub(crate) const NUMBERING_PART: &str = "numbering";

/// How large a build is: what every process that takes part has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub records: u32,
    pub chunks: u32,
    pub dimensions: usize,
}

impl Extent {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        [u64::from(self.records), u64::from(self.chunks), self.dimensions as u64]
            .iter()
            .for_each(|number| put(&mut out, *number));
        out
    }

    /// That of a build whose records are all in.
    pub fn read(work: &Work) -> Result<Self, IndexError> {
        let bytes = work.kept(COMPLETE_PART).ok_or_else(|| damaged("not all records are in"))?;
        let mut cursor = Cursor::new(&bytes);
        let mut read = || {
            let (records, chunks) = (cursor.varint_u32()?, cursor.varint_u32()?);
            Ok(Self { records, chunks, dimensions: cursor.varint_u32()? as usize })
        };
        read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
    }
}

/// A build whose records are all in: for each of [`Stage::ALL`], [`Build::prepare`] makes what its tasks are given, and then each
/// task is run, here or elsewhere; [`Build::finish`] writes what is left.
///
/// Steps and tasks that were done before are not done again. The same records give the same bytes, whoever runs which task.
#[derive(Debug)]
pub struct Build {
    pub(crate) folder: PathBuf,
    pub(crate) work: Work,
    pub(crate) extent: Extent,
    /// Rows a partition is meant to have.
    pub(crate) partition_rows: u64,
    pub(crate) embed: Embed,
    pub(crate) encoder: Encoder,
    /// Segments of the index that this one is added to.
    pub(crate) before: Vec<SegmentEntry>,
}

impl Build {
    /// Does the single step before a stage, whose tasks can be run then.
    ///
    /// # Errors
    /// [`IndexError::Write`] when the disk fails or has lost a part.
    pub fn prepare(&self, stage: Stage) -> Result<PreparedStage, IndexError> {
        match stage {
            Stage::Split => self.train_partitions()?,
            Stage::SortTerms => self.put_in_order()?,
            Stage::Pack => self.train_dictionary()?,
            Stage::MergeTerms => self.number_packs()?,
            Stage::Cluster | Stage::Cells => {}
        }
        PreparedStage::open(&self.folder, stage)
    }

    /// Whether a part is in the work folder as a task left it.
    pub fn holds(&self, part: &Part) -> bool {
        self.work.holds(part)
    }

    /// Runs all stages with the threads of this process and finishes.
    ///
    /// # Errors
    /// As [`Build::prepare`]; [`IndexError::Limit`] when a block outgrows the format.
    pub fn run(self) -> Result<Manifest, IndexError> {
        for stage in Stage::ALL {
            let prepared = self.prepare(stage)?;
            (0..prepared.tasks()).into_par_iter().try_for_each(|task| prepared.run(task).map(drop))?;
        }
        self.finish()
    }

    /// Writes terms, nodes, the root and the manifest, after all stages, and removes the work folder.
    ///
    /// Packs come first and the manifest last, each under a temporary name until it is complete, so a reader sees the
    /// old index or the new one.
    ///
    /// # Errors
    /// As [`Build::run`].
    pub fn finish(mut self) -> Result<Manifest, IndexError> {
        let segment = assemble(&self)?;
        self.before.push(segment);
        let manifest = Manifest::new(self.extent.dimensions, self.embed, self.encoder, self.before);
        write_file(&self.folder, MANIFEST_NAME, &manifest.to_json()?)?;
        remove_unfinished(&self.folder, &[PACK_SUFFIX, MANIFEST_NAME])?;
        self.work.remove()?;
        Ok(manifest)
    }

    /// Folder of the index.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn partitions(&self) -> Result<Partitions, IndexError> {
        let part = self.work.kept(PARTITIONS_PART).ok_or_else(|| damaged("the partitions are gone"))?;
        Partitions::decode(&part, self.extent.dimensions)
    }

    fn split(&self) -> SplitChunks<'_> {
        SplitChunks { work: &self.work, chunks: self.extent.chunks }
    }

    fn train_partitions(&self) -> Result<(), IndexError> {
        let train = || Ok(Partitions::train(&self.work, self.extent, self.partition_rows, SEED)?.encode());
        self.work.part(PARTITIONS_PART, train).map(drop)
    }

    fn put_in_order(&self) -> Result<(), IndexError> {
        if self.work.kept(ORDER_PART).is_none() || self.work.kept(FIRSTS_PART).is_none() {
            let (order, firsts) =
                Order::of_partitions(&self.work, &self.split(), self.partitions()?.len(), self.extent.records)?;
            self.work.keep(ORDER_PART, &order.encode())?;
            self.work.keep(FIRSTS_PART, &firsts.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        Ok(())
    }

    /// A dictionary for texts, trained with records of partitions from all over.
    fn train_dictionary(&self) -> Result<(), IndexError> {
        let (split, partitions) = (self.split(), self.partitions()?.len());
        let step = partitions.div_ceil(DICTIONARY_PARTITIONS).max(1);
        let share = SAMPLE_BYTES / partitions.div_ceil(step).max(1);
        let sample = |partition: usize| {
            let own = split.own(partition)?;
            let bytes: usize = (0..own.len()).map(|row| own.record(row).len()).sum();
            // Every nth, so that samples come from the whole partition.
            let step = bytes.div_ceil(share.max(1)).max(1);
            let samples: Vec<Vec<u8>> = (0..own.len()).step_by(step).map(|row| own.record(row).to_vec()).collect();
            Ok::<_, IndexError>((bytes as u64, samples))
        };
        let make = || {
            let sampled: Vec<usize> = (0..partitions).step_by(step).collect();
            let parts: Vec<_> = sampled.into_par_iter().map(sample).collect::<Result<_, _>>()?;
            let total = parts.iter().map(|(bytes, _)| bytes).sum::<u64>() * step as u64;
            let samples: Vec<&[u8]> = parts.iter().flat_map(|(_, samples)| samples).map(Vec::as_slice).collect();
            Ok(train(&samples, total).unwrap_or_default())
        };
        self.work.part(DICTIONARY_PART, make).map(drop)
    }

    fn number_packs(&self) -> Result<(), IndexError> {
        let make = || Ok(Numbering::of_partitions(&self.work, self.partitions()?.len())?.encode());
        self.work.part(NUMBERING_PART, make).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::build::{IndexWriter, PreparedRow, ReservedChunk, TaskSizes};
    use crate::tests::sample::{Files, options, read_folder, record, vector};

    const RECORDS: usize = 1500;
    const DIMENSIONS: usize = 8;
    const SIZES: TaskSizes = TaskSizes { chunk_rows: 400, partition_rows: 300 };

    fn added(folder: &Path) -> Build {
        let mut writer = IndexWriter::open_sized(options(DIMENSIONS), SIZES, folder).unwrap();
        for n in 0..RECORDS {
            let record = record(n);
            writer.add(&record, &record.question, &vector(n, DIMENSIONS)).unwrap();
        }
        writer.complete().unwrap()
    }

    /// Rows are reserved here and their vectors kept as another process would.
    fn reserved(folder: &Path) -> Build {
        let mut writer = IndexWriter::open_sized(options(DIMENSIONS), SIZES, folder).unwrap();
        let mut rows = Vec::new();
        let keep = |chunk: ReservedChunk, rows: &mut Vec<PreparedRow>| {
            let vectors: Vec<_> = (chunk.first as usize..).take(rows.len()).map(|n| vector(n, DIMENSIONS)).collect();
            let rows = std::mem::take(rows);
            let part = chunk.keep(folder, DIMENSIONS, rows.iter().zip(vectors.iter().map(Vec::as_slice))).unwrap();
            assert_eq!(ReservedChunk::kept(chunk.number, folder), Some(part));
        };
        for n in 0..RECORDS {
            let record = record(n);
            rows.push(PreparedRow::new(&record, &record.question).unwrap());
            if let Some(chunk) = writer.reserve(rows.last().unwrap()).unwrap() {
                keep(chunk, &mut rows);
            }
        }
        keep(writer.close_reserved().unwrap(), &mut rows);
        writer.complete().unwrap()
    }

    fn expected() -> Files {
        let folder = tempfile::tempdir().unwrap();
        added(folder.path()).run().unwrap();
        read_folder(folder.path())
    }

    #[test]
    fn rows_whose_vectors_are_made_elsewhere_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        reserved(folder.path()).run().unwrap();
        assert!(read_folder(folder.path()) == expected());
    }

    #[test]
    fn tasks_may_be_run_twice_by_two_processes_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let build = added(folder.path());
        for stage in Stage::ALL {
            let ours = build.prepare(stage).unwrap();
            let theirs = PreparedStage::open(folder.path(), stage).unwrap();
            assert_eq!(ours.given(), theirs.given());
            assert!(stage == Stage::MergeTerms || ours.tasks() > 3, "{} has {} tasks", stage.name(), ours.tasks());
            let both = |task| rayon::join(|| ours.run(task).unwrap(), || theirs.run(task).unwrap());
            for (one, other) in (0..ours.tasks()).map(both) {
                assert!(one == other && build.holds(&one) && Stage::of_name(stage.name()) == Some(stage));
            }
            assert!(ours.run(ours.tasks()).is_err());
        }
        build.finish().unwrap();
        assert!(read_folder(folder.path()) == expected());
    }

    #[test]
    fn only_a_failing_disk_is_worth_another_try() {
        let folder = tempfile::tempdir().unwrap();
        let missing = PreparedStage::open(folder.path(), Stage::Split).unwrap_err();
        assert!(missing.is_transient(), "{missing}");
        let build = added(folder.path());
        let unprepared = PreparedStage::open(build.folder(), Stage::Pack).unwrap_err();
        assert!(!unprepared.is_transient(), "{unprepared}");
    }
}
