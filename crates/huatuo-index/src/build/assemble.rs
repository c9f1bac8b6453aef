//! The end of a build: packs of all partitions are numbered, and shards, nodes and the root are written.

use super::compress::Sealer;
use super::pack::PackWriter;
use super::partition_packs::PartitionPacks;
use super::plan::{Build, DICTIONARY_PART, SEED};
use super::stage::{NEIGHBOURS, Stage, part_name};
use super::term_packs::write_shards;
use super::work::{Work, damaged, write_file};
use crate::cell::cell_bytes;
use crate::format::HEADER_BYTES;
use crate::node::encode_node;
use crate::root::{Root, Span};
use crate::varint::{Cursor, put};
use crate::{IndexError, Kind, Location, PackEntry, SegmentEntry};

/// What later stages need to know of all partitions' packs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numbering {
    /// Terms of all rows together, repeated ones repeated.
    pub total_terms: u64,
    /// Numbers of each partition's first pack of texts and first pack of lists.
    pub first_packs: Vec<(u32, u32)>,
}

impl Numbering {
    /// Numbers the packs in the order of the partitions: those of texts, then those of lists.
    pub fn of_partitions(work: &Work, partitions: usize) -> Result<Self, IndexError> {
        let (mut numbering, mut packs) = (Self::default(), 0);
        for partition in 0..partitions {
            let out = packs_of(work, partition)?;
            numbering.total_terms += out.total_terms;
            let (texts, lists) = (out.text_packs.len() as u32, out.list_packs.len() as u32);
            numbering.first_packs.push((packs, packs + texts));
            packs += texts + lists;
        }
        Ok(numbering)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.total_terms);
        put(&mut out, self.first_packs.len() as u64);
        for (texts, lists) in &self.first_packs {
            put(&mut out, u64::from(*texts));
            put(&mut out, u64::from(*lists));
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let read = || {
            let mut cursor = Cursor::new(bytes);
            let (total_terms, count) = (cursor.varint()?, cursor.count(2)?);
            let mut pair = || Ok((cursor.varint_u32()?, cursor.varint_u32()?));
            let first_packs = (0..count).map(|_| pair()).collect::<Result<_, crate::error::Malformed>>()?;
            cursor.finish()?;
            Ok(Self { total_terms, first_packs })
        };
        read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
    }
}

/// What a partition gave when its texts and lists were packed.
pub(crate) fn packs_of(work: &Work, partition: usize) -> Result<PartitionPacks, IndexError> {
    packs(work, Stage::Pack, partition)
}

fn packs(work: &Work, stage: Stage, partition: usize) -> Result<PartitionPacks, IndexError> {
    PartitionPacks::decode(&work.kept(&part_name(stage, partition)).ok_or_else(|| damaged("a partition is gone"))?)
}

/// Writes shards of terms, nodes and the root of a build whose stages are done; lists all packs in their order.
pub(crate) fn assemble(build: &Build) -> Result<SegmentEntry, IndexError> {
    let (work, extent) = (&build.work, build.extent);
    let partitions = build.partitions()?;
    let sink = |name: &str, content: &[u8]| write_file(&build.folder, name, content);
    let numbering = Numbering::of_partitions(work, partitions.len())?;
    let mut packs: Vec<PackEntry> = Vec::new();
    for partition in 0..partitions.len() {
        let out = packs_of(work, partition)?;
        packs.extend(out.text_packs.into_iter().chain(out.list_packs));
    }
    let bucket = |number: usize| {
        let part = work.kept(&part_name(Stage::MergeTerms, number));
        part.ok_or_else(|| damaged("a bucket of terms is gone"))
    };
    let (term_packs, shards) = write_shards(bucket, packs.len() as u32, &sink)?;
    packs.extend(term_packs);
    let cells = number_cells(work, partitions.len(), extent.dimensions, &mut packs)?;

    let first = packs.len() as u32;
    let mut writer = PackWriter::new(&sink);
    let mut push = |block: Vec<u8>| {
        let (pack, offset) = writer.push(&block)?;
        Ok::<_, IndexError>(Span { pack: (first + pack) as u16, offset, length: block.len() as u32 })
    };
    let (mut nodes, mut codes) = (Vec::new(), Vec::new());
    for (partition, (_, list_pack)) in numbering.first_packs.iter().enumerate() {
        for node in &packs_of(work, partition)?.nodes {
            let place = (list_pack + node.pack, u64::from(node.offset));
            let payload = encode_node(nodes.len() as u32, place, &node.codes, &node.lengths);
            nodes.push(push(Sealer::seal_raw(Kind::NODES, &payload)?)?);
            codes.extend_from_slice(&node.code);
        }
    }
    let mut sealer = Sealer::new(None)?;
    let dictionary = work.kept(DICTIONARY_PART).ok_or_else(|| damaged("the dictionary is gone"))?;
    let dictionary = (!dictionary.is_empty()).then(|| push(sealer.seal(Kind::DICTIONARY, &dictionary)?)).transpose()?;
    let root = Root {
        records: extent.records,
        total_terms: numbering.total_terms,
        neighbours: NEIGHBOURS,
        seed: SEED,
        mean: partitions.mean,
        codes,
        nodes,
        cells,
        shards,
        dictionary,
    };
    let root = push(sealer.seal(Kind::ROOT, &root.encode())?)?;
    packs.extend(writer.finish()?);
    let root = Location { pack: u32::from(root.pack), offset: u64::from(root.offset), length: root.length };
    Ok(SegmentEntry { records: extent.records, packs, root, tombstones: None })
}

/// Numbers the packs of cells behind the others; gives where each block lies and how many rows it has.
fn number_cells(
    work: &Work,
    partitions: usize,
    dimensions: usize,
    all: &mut Vec<PackEntry>,
) -> Result<Vec<(Span, u32)>, IndexError> {
    let mut cells = Vec::new();
    for partition in 0..partitions {
        for pack in packs(work, Stage::Cells, partition)?.text_packs {
            let rows = (pack.bytes as usize - HEADER_BYTES) / cell_bytes(dimensions, NEIGHBOURS);
            cells.push((Span { pack: all.len() as u16, offset: 0, length: pack.bytes as u32 }, rows as u32));
            all.push(pack);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbering_comes_back() {
        let numbering = Numbering { total_terms: 700, first_packs: vec![(0, 1), (3, 300)] };
        assert_eq!(Numbering::decode(&numbering.encode()).unwrap(), numbering);
        let bytes = numbering.encode();
        assert!(Numbering::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
