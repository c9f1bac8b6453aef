//! The stages of a build after all records are in: from chunks of rows to the packs of a segment.

use std::fs;
use std::path::Path;

use rayon::prelude::*;

use super::centroids::Vectors;
use super::cluster::{Clusters, cluster};
use super::compress::{SAMPLE_BYTES, Sealer, train};
use super::pack::{PackWriter, TARGET_BYTES};
use super::partition::{Partitions, SplitChunks};
use super::partition_packs::{PartitionPacks, Shared};
use super::rows::{Rows, damaged};
use super::term_packs::{BUCKETS, merge_bucket, sort_terms, write_shards};
use super::work::{Work, write_error};
use crate::bm25::Corpus;
use crate::cell::{TextPlace, cell_bytes, fill_neighbours, put_cell};
use crate::format::HEADER_BYTES;
use crate::node::encode_node;
use crate::rabitq::Rotation;
use crate::root::{Root, Span};
use crate::{IndexError, Kind, Location, PackEntry, SegmentEntry};

/// Seed of all that is random in a build: the letters of the name.
const SEED: u64 = 0x6875_6174_756f;
/// Rows a node is meant to have, in an index whose root stays small anyway.
const NODE_ROWS: u64 = 448;
/// Most nodes a root is meant to have, so that a browser holds it in a few megabytes.
const MOST_NODES: u64 = 40_000;
/// Partitions that the dictionary's samples are taken from at most.
const DICTIONARY_PARTITIONS: usize = 32;
/// What a file's name ends with until it is complete.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";
/// Neighbours of a row.
const NEIGHBOURS: u32 = 16;

/// Builds a segment of the chunks that a writer has kept.
pub(crate) struct SegmentBuilder<'a> {
    pub work: &'a Work,
    pub folder: &'a Path,
    pub chunks: u32,
    pub records: u32,
    pub dimensions: usize,
}

/// The order of all rows.
struct Order {
    /// Row of each position of the input.
    row_of: Vec<u32>,
    /// Squared distance of each position of the input from its list's centroid.
    distance_of: Vec<f32>,
    /// First row of each partition.
    firsts: Vec<u32>,
}

impl SegmentBuilder<'_> {
    pub fn build(&self) -> Result<SegmentEntry, IndexError> {
        let train =
            || Ok(Partitions::train(self.work, self.chunks, u64::from(self.records), self.dimensions, SEED)?.encode());
        let partitions = Partitions::decode(&self.work.part("partitions", train)?, self.dimensions)?;
        (0..self.chunks).into_par_iter().try_for_each(|chunk| partitions.split_chunk(self.work, chunk))?;
        let split = SplitChunks::open(self.work, self.chunks, partitions.len())?;
        let Order { row_of, distance_of, firsts } = self.order(&split, partitions.len())?;
        let sink = |name: &str, content: &[u8]| write_file(self.folder, name, content);
        let shared = Shared {
            dimensions: self.dimensions,
            rotation: Rotation::new(self.dimensions, SEED),
            mean: partitions.mean.clone(),
            dictionary: self.dictionary(&split, partitions.len())?,
            row_of,
            distance_of,
            sink: &sink,
        };
        self.write_partitions(&split, &shared, &firsts)?;
        self.assemble(&split, &shared, &firsts)
    }

    /// Puts each partition in order, and then all rows.
    fn order(&self, split: &SplitChunks<'_>, partitions: usize) -> Result<Order, IndexError> {
        let node_rows = NODE_ROWS.max(u64::from(self.records) / MOST_NODES) as usize;
        let make = |partition: usize| {
            let part = self.work.part(&clusters_name(partition), || {
                let (own, guests) = (split.own(partition)?, split.guests(partition)?);
                let all = [own.vectors.as_slice(), &guests.vectors].concat();
                let vectors = Vectors::new(&all, self.dimensions);
                Ok(cluster(&vectors, own.len(), node_rows, NEIGHBOURS as usize, SEED).encode())
            });
            part.map(drop)
        };
        (0..partitions).into_par_iter().try_for_each(make)?;
        let own = |partition: usize| {
            let (own, clusters) = (split.own(partition)?, self.clusters(partition)?);
            let ids: Vec<u32> = clusters.order.iter().map(|position| own.ids[*position as usize]).collect();
            Ok::<_, IndexError>((ids, clusters.distances))
        };
        let orders: Vec<_> = (0..partitions).into_par_iter().map(own).collect::<Result<_, _>>()?;
        let (mut row_of, mut distance_of) = (vec![u32::MAX; self.records as usize], vec![0.0; self.records as usize]);
        let (mut row, mut firsts) = (0, Vec::new());
        for (ids, distances) in orders {
            firsts.push(row);
            for (id, distance) in ids.into_iter().zip(distances) {
                (row_of[id as usize], distance_of[id as usize]) = (row, distance);
                row += 1;
            }
        }
        Ok(Order { row_of, distance_of, firsts })
    }

    fn clusters(&self, partition: usize) -> Result<Clusters, IndexError> {
        Clusters::decode(&self.work.kept(&clusters_name(partition)).ok_or_else(|| damaged("a partition is gone"))?)
    }

    fn packs(&self, partition: usize) -> Result<PartitionPacks, IndexError> {
        PartitionPacks::decode(&self.work.kept(&packs_name(partition)).ok_or_else(|| damaged("a partition is gone"))?)
    }

    /// A dictionary for texts, trained with records of partitions from all over.
    fn dictionary(&self, split: &SplitChunks<'_>, partitions: usize) -> Result<Option<Vec<u8>>, IndexError> {
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
        let dictionary = self.work.part("dictionary", make)?;
        Ok((!dictionary.is_empty()).then_some(dictionary))
    }

    fn write_partitions(&self, split: &SplitChunks<'_>, shared: &Shared<'_>, firsts: &[u32]) -> Result<(), IndexError> {
        let write = |partition: usize| {
            let load = || Ok::<_, IndexError>((split.own(partition)?, self.clusters(partition)?));
            if self.work.kept(&terms_name(partition)).is_none() {
                let (own, clusters) = load()?;
                self.work.keep(&terms_name(partition), &sort_terms(&own, &clusters, firsts[partition])?)?;
            }
            let part = self.work.part(&packs_name(partition), || {
                let (own, clusters) = load()?;
                Ok(shared.write(&own, &split.guests(partition)?, &clusters)?.encode())
            });
            part.map(drop)
        };
        (0..firsts.len()).into_par_iter().try_for_each(write)
    }

    /// Numbers the packs, and writes terms, cells, nodes and the root.
    fn assemble(
        &self,
        split: &SplitChunks<'_>,
        shared: &Shared<'_>,
        firsts: &[u32],
    ) -> Result<SegmentEntry, IndexError> {
        let outcomes: Vec<PartitionPacks> =
            (0..firsts.len()).map(|partition| self.packs(partition)).collect::<Result<_, _>>()?;
        let mut packs: Vec<PackEntry> = Vec::new();
        let mut number = |more: &[PackEntry]| {
            packs.extend_from_slice(more);
            (packs.len() - more.len()) as u32
        };
        let first_packs: Vec<(u32, u32)> =
            outcomes.iter().map(|out| (number(&out.text_packs), number(&out.list_packs))).collect();
        let total_terms = outcomes.iter().map(|out| out.total_terms).sum();
        let corpus = Corpus { records: self.records, total_terms };

        let names: Vec<String> = (0..firsts.len()).map(terms_name).collect();
        let bucket = |number: usize| {
            self.work.part(&format!("terms-of-{number:03}"), || merge_bucket(self.work, &names, number, corpus))
        };
        (0..BUCKETS).into_par_iter().try_for_each(|number| bucket(number).map(drop))?;
        let (term_packs, shards) = write_shards(bucket, packs.len() as u32, shared.sink)?;
        packs.extend(term_packs);

        let cells = self.write_cells(split, shared, &outcomes, &first_packs, &mut packs)?;
        let first = packs.len() as u32;
        let mut writer = PackWriter::new(shared.sink);
        let mut push = |block: Vec<u8>| {
            let (pack, offset) = writer.push(&block)?;
            Ok::<_, IndexError>(Span { pack: (first + pack) as u16, offset, length: block.len() as u32 })
        };
        let (mut nodes, mut codes) = (Vec::new(), Vec::new());
        for (out, (_, list_pack)) in outcomes.iter().zip(&first_packs) {
            for node in &out.nodes {
                let place = (list_pack + node.pack, u64::from(node.offset));
                let payload = encode_node(nodes.len() as u32, place, &node.codes, &node.lengths);
                nodes.push(push(Sealer::seal_raw(Kind::NODES, &payload)?)?);
                codes.extend_from_slice(&node.code);
            }
        }
        let mut sealer = Sealer::new(None)?;
        let dictionary =
            shared.dictionary.as_ref().map(|bytes| push(sealer.seal(Kind::DICTIONARY, bytes)?)).transpose()?;
        let mean = shared.mean.clone();
        let (records, neighbours, seed) = (self.records, NEIGHBOURS, SEED);
        let root = Root { records, total_terms, neighbours, seed, mean, codes, nodes, cells, shards, dictionary };
        let root = push(sealer.seal(Kind::ROOT, &root.encode())?)?;
        packs.extend(writer.finish()?);
        let root = Location { pack: u32::from(root.pack), offset: u64::from(root.offset), length: root.length };
        Ok(SegmentEntry { records, packs, root, tombstones: None })
    }

    /// Cells of all rows, partition by partition; a block fills a pack at most.
    fn write_cells(
        &self,
        split: &SplitChunks<'_>,
        shared: &Shared<'_>,
        outcomes: &[PartitionPacks],
        first_packs: &[(u32, u32)],
        packs: &mut Vec<PackEntry>,
    ) -> Result<Vec<(Span, u32)>, IndexError> {
        let per_pack = (TARGET_BYTES / cell_bytes(self.dimensions, NEIGHBOURS)).max(1);
        let write = |partition: usize| {
            let make = || {
                let (own, guests, clusters) =
                    (split.own(partition)?, split.guests(partition)?, self.clusters(partition)?);
                let cells = Cells {
                    own: &own,
                    guests: &guests,
                    clusters: &clusters,
                    out: &outcomes[partition],
                    first_pack: first_packs[partition].0,
                };
                let mut written = PartitionPacks::default();
                for chunk in (0..clusters.order.len()).collect::<Vec<_>>().chunks(per_pack) {
                    let block = Sealer::seal_raw(Kind::CELLS, &cells.encode(chunk, shared))?;
                    let mut writer = PackWriter::new(shared.sink);
                    writer.push(&block)?;
                    written.text_packs.extend(writer.finish()?);
                }
                Ok(written.encode())
            };
            PartitionPacks::decode(&self.work.part(&format!("cells-{partition:05}"), make)?)
        };
        let written: Vec<PartitionPacks> = (0..outcomes.len()).into_par_iter().map(write).collect::<Result<_, _>>()?;
        let mut cells = Vec::new();
        for pack in written.iter().flat_map(|written| &written.text_packs) {
            let rows = (pack.bytes as usize - HEADER_BYTES) / cell_bytes(self.dimensions, NEIGHBOURS);
            cells.push((Span { pack: packs.len() as u16, offset: 0, length: pack.bytes as u32 }, rows as u32));
            packs.push(pack.clone());
        }
        Ok(cells)
    }
}

/// What the cells of a partition are made of.
struct Cells<'a> {
    own: &'a Rows,
    guests: &'a Rows,
    clusters: &'a Clusters,
    out: &'a PartitionPacks,
    first_pack: u32,
}

impl Cells<'_> {
    fn encode(&self, rows: &[usize], shared: &Shared<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let row_at = |position: u32| {
            let position = position as usize;
            let id = self.own.ids.get(position).or_else(|| self.guests.ids.get(position - self.own.len()));
            id.map_or(u32::MAX, |id| shared.row_of[*id as usize])
        };
        for &row in rows {
            let position = self.clusters.order[row];
            let neighbours = self.clusters.neighbours[row].iter().map(|other| row_at(*other)).collect();
            let text = self.out.texts[row];
            let text = TextPlace { pack: (self.first_pack + u32::from(text.pack)) as u16, ..text };
            let vector = self.own.vector(position as usize);
            put_cell(
                &mut bytes,
                row_at(position),
                vector,
                &fill_neighbours(neighbours, NEIGHBOURS),
                text,
                self.out.length_bytes[row],
            );
        }
        bytes
    }
}

fn clusters_name(partition: usize) -> String {
    format!("clusters-{partition:05}")
}

fn packs_name(partition: usize) -> String {
    format!("packs-{partition:05}")
}

fn terms_name(partition: usize) -> String {
    format!("terms-{partition:05}")
}

/// Writes a file under a temporary name until it is complete.
pub(crate) fn write_file(folder: &Path, name: &str, content: &[u8]) -> Result<(), IndexError> {
    let (path, unfinished) = (folder.join(name), folder.join(format!("{name}{UNFINISHED_SUFFIX}")));
    let write = || {
        fs::write(&unfinished, content)?;
        // Without this a crash could leave a complete name with an incomplete file.
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|error| write_error(&path, &error))
}
