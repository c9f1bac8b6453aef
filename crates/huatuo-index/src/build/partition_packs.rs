//! What a partition gives to the index: its texts and lists as packs, codes and places of its lists, and its terms sorted.

use rayon::prelude::*;

use super::centroids::{Vectors, mean, numbers, unit_row};
use super::cluster::{Clusters, GUEST_RATIO};
use super::compress::Sealer;
use super::order::Order;
use super::pack::{PackWriter, Sink};
use super::rows::{Rows, decode_terms};
use super::work::damaged;
use crate::block::encode_rows;
use crate::cell::TextPlace;
use crate::list::NewList;
use crate::rabitq::{Rotation, put_code};
use crate::varint::{Cursor, put, put_text};
use crate::vectors::put_row;
use crate::{IndexError, Kind, PackEntry, document_length};

/// A block of texts is closed when it has as many bytes: what a reader pays for one record.
const TEXT_BLOCK_BYTES: usize = 4 << 10;

/// What cells, nodes and the root need of a partition later. Packs are numbered within it: those of texts, then those of lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PartitionPacks {
    pub text_packs: Vec<PackEntry>,
    pub list_packs: Vec<PackEntry>,
    /// Where each row's text lies.
    pub texts: Vec<TextPlace>,
    pub length_bytes: Vec<u8>,
    pub total_terms: u64,
    pub nodes: Vec<NodeLists>,
}

/// A node's own code, where its lists begin, and their codes and lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeLists {
    pub code: Vec<u8>,
    pub pack: u32,
    pub offset: u32,
    pub codes: Vec<u8>,
    pub lengths: Vec<u32>,
}

/// What all partitions share.
pub(crate) struct Shared<'a> {
    pub dimensions: usize,
    pub rotation: &'a Rotation,
    pub mean: &'a [f32],
    pub dictionary: Option<&'a [u8]>,
    pub order: &'a Order,
    pub sink: &'a Sink<'a>,
}

impl Shared<'_> {
    /// Writes a partition's texts and lists.
    pub fn write(&self, own: &Rows, guests: &Rows, clusters: &Clusters) -> Result<PartitionPacks, IndexError> {
        let mut out = PartitionPacks::default();
        self.write_texts(own, clusters, &mut out)?;
        self.write_lists(own, guests, clusters, &mut out)?;
        Ok(out)
    }

    fn write_texts(&self, own: &Rows, clusters: &Clusters, out: &mut PartitionPacks) -> Result<(), IndexError> {
        let mut sealer = Sealer::new(self.dictionary)?;
        let mut packs = PackWriter::new(self.sink);
        let mut first = self.first_row(own, clusters);
        let (mut bytes, mut rows) = (Vec::new(), 0u32);
        for (n, position) in clusters.order.iter().enumerate() {
            bytes.extend_from_slice(own.record(*position as usize));
            rows += 1;
            if bytes.len() >= TEXT_BLOCK_BYTES || n + 1 == clusters.order.len() {
                let block = sealer.seal(Kind::TEXTS, &encode_rows(first, rows, &bytes))?;
                let (pack, offset) = packs.push(&block)?;
                let place = TextPlace { pack: pack as u16, offset, length: block.len() as u32 };
                out.texts.extend(std::iter::repeat_n(place, rows as usize));
                first += rows;
                rows = 0;
                bytes.clear();
            }
        }
        out.text_packs = packs.finish()?;
        for position in &clusters.order {
            let (total, _) = decode_terms(own.terms(*position as usize))?;
            out.length_bytes.push(document_length::to_byte(total));
            out.total_terms += u64::from(total);
        }
        Ok(())
    }

    fn first_row(&self, own: &Rows, clusters: &Clusters) -> u32 {
        clusters.order.first().map_or(0, |position| self.order.row_of[own.ids[*position as usize] as usize])
    }

    fn write_lists(
        &self,
        own: &Rows,
        guests: &Rows,
        clusters: &Clusters,
        out: &mut PartitionPacks,
    ) -> Result<(), IndexError> {
        let all = [own.vectors.as_slice(), &guests.vectors].concat();
        let vectors = Vectors::new(&all, self.dimensions);
        let ids: Vec<u32> = own.ids.iter().chain(&guests.ids).copied().collect();
        let turned_mean = self.rotation.rotate(self.mean);
        let mut firsts = vec![0usize];
        clusters.lists.iter().for_each(|list| firsts.push(firsts[firsts.len() - 1] + list.own as usize));
        let make = |number: usize| {
            self.list(
                clusters,
                number,
                &clusters.order[firsts[number]..firsts[number + 1]],
                (&vectors, &ids),
                &turned_mean,
            )
        };
        let lists: Vec<(Vec<u8>, Vec<u8>)> =
            (0..clusters.lists.len()).into_par_iter().map(make).collect::<Result<_, _>>()?;
        let mut packs = PackWriter::new(self.sink);
        let mut list = 0;
        for count in &clusters.nodes {
            let range = list..list + *count as usize;
            let members = &clusters.order[firsts[range.start]..firsts[range.end]];
            let blocks: Vec<u8> = lists[range.clone()].iter().flat_map(|(block, _)| block).copied().collect();
            let (pack, offset) = packs.push(&blocks)?;
            let (unit, _) = unit_row(&mean(&vectors, members));
            let mut code = Vec::new();
            self.code(&mut code, &numbers(&unit), self.mean, &turned_mean);
            let codes = lists[range.clone()].iter().flat_map(|(_, code)| code).copied().collect();
            let lengths = lists[range.clone()].iter().map(|(block, _)| block.len() as u32).collect();
            out.nodes.push(NodeLists { code, pack, offset, codes, lengths });
            list = range.end;
        }
        out.list_packs = packs.finish()?;
        Ok(())
    }

    fn code(&self, out: &mut Vec<u8>, vector: &[f32], centre: &[f32], turned: &[f32]) {
        put_code(out, (vector, &self.rotation.rotate(vector)), (centre, turned));
    }

    /// A list's block, and its centroid's code for its node.
    fn list(
        &self,
        clusters: &Clusters,
        number: usize,
        members: &[u32],
        (vectors, ids): (&Vectors<'_>, &[u32]),
        turned_mean: &[f32],
    ) -> Result<(Vec<u8>, Vec<u8>), IndexError> {
        let (unit, length) = unit_row(&mean(vectors, members));
        let unit_numbers = numbers(&unit);
        let mut of_centroid = Vec::new();
        self.code(&mut of_centroid, &unit_numbers, self.mean, turned_mean);
        let mut centroid = Vec::new();
        put_row(&mut centroid, &unit_numbers, length);
        let centre = numbers(&centroid);
        let turned = self.rotation.rotate(&centre);
        let near = clusters.lists[number].guests.iter();
        let near = near.map(|(position, far)| (ids[*position as usize] as usize, *position, *far));
        let near = near.filter(|(id, _, far)| *far <= GUEST_RATIO * self.order.distance_of[*id]);
        let mut guests: Vec<(u32, u32)> = near.map(|(id, position, _)| (self.order.row_of[id], position)).collect();
        guests.sort_unstable();
        let mut codes = Vec::new();
        for position in members.iter().chain(guests.iter().map(|(_, position)| position)) {
            self.code(&mut codes, &numbers(vectors.row(*position as usize)), &centre, &turned);
        }
        let rows: Vec<u32> = guests.iter().map(|(row, _)| *row).collect();
        let first_row = members.first().map_or(0, |position| self.order.row_of[ids[*position as usize] as usize]);
        let list = NewList { first_row, own: members.len() as u32, centroid: &centroid, codes: &codes, guests: &rows };
        Ok((Sealer::seal_raw(Kind::LISTS, &list.encode())?, of_centroid))
    }
}

impl PartitionPacks {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for packs in [&self.text_packs, &self.list_packs] {
            put(&mut out, packs.len() as u64);
            for pack in packs {
                put_text(&mut out, &pack.name);
                put(&mut out, pack.bytes);
            }
        }
        put(&mut out, self.texts.len() as u64);
        for (text, length_byte) in self.texts.iter().zip(&self.length_bytes) {
            [u64::from(text.pack), u64::from(text.offset), u64::from(text.length)]
                .iter()
                .for_each(|number| put(&mut out, *number));
            out.push(*length_byte);
        }
        put(&mut out, self.total_terms);
        put(&mut out, self.nodes.len() as u64);
        for node in &self.nodes {
            for bytes in [&node.code, &node.codes] {
                put(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            [node.pack, node.offset, node.lengths.len() as u32]
                .iter()
                .for_each(|number| put(&mut out, u64::from(*number)));
            node.lengths.iter().for_each(|length| put(&mut out, u64::from(*length)));
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let read = || {
            let mut cursor = Cursor::new(bytes);
            let mut out = Self::default();
            for packs in [&mut out.text_packs, &mut out.list_packs] {
                for _ in 0..cursor.count(2)? {
                    packs.push(PackEntry { name: cursor.text()?.to_owned(), bytes: cursor.varint()? });
                }
            }
            for _ in 0..cursor.count(4)? {
                let (pack, offset, length) = (cursor.varint_u32()? as u16, cursor.varint_u32()?, cursor.varint_u32()?);
                out.texts.push(TextPlace { pack, offset, length });
                out.length_bytes.push(cursor.byte()?);
            }
            out.total_terms = cursor.varint()?;
            for _ in 0..cursor.count(5)? {
                let mut node = NodeLists::default();
                for bytes in [&mut node.code, &mut node.codes] {
                    let count = cursor.count(1)?;
                    *bytes = cursor.take(count)?.to_vec();
                }
                (node.pack, node.offset) = (cursor.varint_u32()?, cursor.varint_u32()?);
                let count = cursor.count(1)?;
                node.lengths = (0..count).map(|_| cursor.varint_u32()).collect::<Result<_, _>>()?;
                out.nodes.push(node);
            }
            cursor.finish()?;
            Ok(out)
        };
        read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partition_gives_comes_back() {
        let packs = |name: &str| vec![PackEntry { name: name.to_owned(), bytes: 9 }];
        let node = NodeLists { code: vec![1], pack: 2, offset: 3, codes: vec![4, 5], lengths: vec![6, 7] };
        let text = TextPlace { pack: 1, offset: 2, length: 3 };
        let out = PartitionPacks {
            text_packs: packs("a"),
            list_packs: packs("b"),
            texts: vec![text],
            length_bytes: vec![8],
            total_terms: 9,
            nodes: vec![node],
        };
        assert_eq!(PartitionPacks::decode(&out.encode()).unwrap(), out);
    }
}
