//! An open segment: its root, checked once so that searches need not, and where blocks lie.

use std::collections::HashSet;

use crate::cell::cell_bytes;
use crate::error::Malformed;
use crate::format::{HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::list::List;
use crate::node::Node;
use crate::rabitq::Rotation;
use crate::root::{Root, Span};
use crate::{BlockAt, Kind, SegmentEntry};

/// Bytes that can be read: a block, or one cell of a block of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub segment: u16,
    pub kind: Kind,
    pub pack: u16,
    pub offset: u64,
    pub length: u32,
    /// What it must be of: the number of a node or shard, the row of a cell; 0 where nothing says.
    pub number: u32,
}

/// A segment of an open index.
#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u16,
    /// Its first row among all of the index.
    pub first_row: u32,
    pub entry: SegmentEntry,
    pub root: Root,
    pub rotation: Rotation,
    pub dimensions: usize,
    /// First row of each block of cells.
    cell_rows: Vec<u32>,
    pub deleted: HashSet<u32>,
}

impl Segment {
    /// Joins a root with its entry in the manifest.
    pub fn new(
        (number, first_row): (u16, u32),
        entry: SegmentEntry,
        root: Root,
        dimensions: usize,
        deleted: HashSet<u32>,
    ) -> Result<Self, Malformed> {
        if root.records != entry.records {
            return Err(Malformed("its number of records is not the manifest's"));
        }
        if !root.spans().all(|span| lies_in_pack(&entry, span)) {
            return Err(Malformed("a block lies outside its pack"));
        }
        if deleted.iter().any(|row| *row >= entry.records) {
            return Err(Malformed("a deleted row is beyond the last record"));
        }
        let mut first = 0;
        let cell_rows = root.cells.iter().map(|(_, rows)| {
            first += rows;
            first - rows
        });
        let cell_rows = cell_rows.collect();
        let rotation = Rotation::new(dimensions, root.seed);
        Ok(Self { number, first_row, entry, root, rotation, dimensions, cell_rows, deleted })
    }

    /// Bytes it holds in memory, pack names left out.
    pub fn resident_bytes(&self) -> usize {
        let Root { mean, codes, nodes, cells, shards, .. } = &self.root;
        let vectors =
            size_of_val(mean.as_slice()) + codes.len() + size_of_val(nodes.as_slice()) + size_of_val(cells.as_slice());
        vectors + size_of_val(shards.as_slice()) + size_of_val(self.cell_rows.as_slice()) + 8 * self.deleted.capacity()
    }

    /// Where a node's lists are told.
    pub fn node(&self, number: u32) -> Place {
        self.place(Kind::NODES, self.root.nodes[number as usize], number)
    }

    /// Where a shard of terms lies, if any row has a term of it.
    pub fn shard(&self, number: u32) -> Option<Place> {
        let span = self.root.shards[number as usize];
        (span.length > 0).then(|| self.place(Kind::TERMS, span, number))
    }

    /// Where the dictionary lies.
    pub fn dictionary(&self) -> Option<Place> {
        self.root.dictionary.map(|span| self.place(Kind::DICTIONARY, span, 0))
    }

    /// Where a row's cell lies; the row must exist.
    pub fn cell(&self, row: u32) -> Place {
        let block = self.cell_rows.partition_point(|first| *first <= row) - 1;
        let (span, bytes) = (self.root.cells[block].0, cell_bytes(self.dimensions, self.root.neighbours));
        let offset = u64::from(span.offset) + (HEADER_BYTES + (row - self.cell_rows[block]) as usize * bytes) as u64;
        Place { segment: self.number, kind: Kind::CELLS, pack: span.pack, offset, length: bytes as u32, number: row }
    }

    /// Where a block lies that another block tells of.
    pub fn told(&self, kind: Kind, pack: u32, offset: u64, length: u32) -> Result<Place, Malformed> {
        let outside = Malformed("it tells of a block outside the packs");
        let pack = u16::try_from(pack).map_err(|_| outside)?;
        let span = Span { pack, offset: u32::try_from(offset).map_err(|_| outside)?, length };
        if lies_in_pack(&self.entry, &span) { Ok(self.place(kind, span, 0)) } else { Err(outside) }
    }

    fn place(&self, kind: Kind, span: Span, number: u32) -> Place {
        let Span { pack, offset, length } = span;
        Place { segment: self.number, kind, pack, offset: u64::from(offset), length, number }
    }

    /// Reads a node that was asked for by its number.
    pub fn parse_node<'a>(&self, payload: &'a [u8], number: u32) -> Result<Node<'a>, Malformed> {
        let node = Node::parse(payload, self.rotation.code_bytes())?;
        if node.number == number { Ok(node) } else { Err(Malformed("it is another node than the root says")) }
    }

    /// Reads a list.
    pub fn parse_list<'a>(&self, payload: &'a [u8]) -> Result<List<'a>, Malformed> {
        List::parse(payload, self.dimensions, self.rotation.code_bytes(), self.entry.records)
    }

    /// Names a place for an error.
    pub fn at(&self, place: &Place) -> BlockAt {
        let pack = self.entry.packs.get(usize::from(place.pack)).map(|pack| pack.name.clone()).unwrap_or_default();
        BlockAt { pack, offset: place.offset, kind: place.kind }
    }
}

fn lies_in_pack(entry: &SegmentEntry, span: &Span) -> bool {
    let end = u64::from(span.offset) + u64::from(span.length);
    (HEADER_BYTES as u32..=MAX_PAYLOAD_BYTES + HEADER_BYTES as u32).contains(&span.length)
        && entry.packs.get(usize::from(span.pack)).is_some_and(|pack| end <= pack.bytes)
}
