//! The payload of the root block: corpus statistics, the nodes that searches enter by, and where everything lies, as columns.

use crate::cell::{MAX_NEIGHBOURS, cell_bytes};
use crate::error::Malformed;
use crate::format::{HEADER_BYTES, MAX_NODES, MAX_PAYLOAD_BYTES, MAX_SHARDS};
use crate::rabitq::Rotation;
use crate::varint::Cursor;
#[cfg(feature = "write")]
use crate::varint::{put, put_column};

/// A decoded root block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Root {
    pub records: u32,
    /// Terms of all rows together, repeated ones repeated.
    pub total_terms: u64,
    /// Neighbours in a cell.
    pub neighbours: u32,
    /// Seed of the rotation of all codes.
    pub seed: u64,
    /// The mean of all vectors, `[dimensions]`, which codes of nodes and lists are relative to.
    pub mean: Vec<f32>,
    /// Codes of the nodes, one behind another.
    pub codes: Vec<u8>,
    pub nodes: Vec<Span>,
    /// Blocks of cells, rows ascending.
    pub cells: Vec<(Span, u32)>,
    /// One for each shard, a power of two; an empty one has no block and length 0.
    pub shards: Vec<Span>,
    pub dictionary: Option<Span>,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Position of the pack in the segment.
    pub pack: u16,
    /// First byte of the header in the pack.
    pub offset: u32,
    /// Bytes of header and payload.
    pub length: u32,
}

impl Root {
    #[cfg(feature = "write")]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [u64::from(self.records), self.total_terms, u64::from(self.neighbours), self.seed] {
            put(&mut out, number);
        }
        let spans = [self.nodes.len(), self.cells.len(), self.shards.len(), usize::from(self.dictionary.is_some())];
        spans.iter().for_each(|count| put(&mut out, *count as u64));
        self.mean.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        out.extend_from_slice(&self.codes);
        put_spans(&mut out, self.nodes.iter());
        put_spans(&mut out, self.cells.iter().map(|(span, _)| span));
        put_column(&mut out, self.cells.iter().map(|(_, rows)| u64::from(*rows)));
        put_spans(&mut out, self.shards.iter());
        put_spans(&mut out, self.dictionary.iter());
        out
    }

    pub fn decode(payload: &[u8], dimensions: usize) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (records, total_terms) = (cursor.varint_u32()?, cursor.varint()?);
        let (neighbours, seed) = (cursor.varint_u32()?, cursor.varint()?);
        let [nodes, cells, shards, dictionaries] =
            [cursor.varint_u32()?, cursor.varint_u32()?, cursor.varint_u32()?, cursor.varint_u32()?];
        let check = |holds: bool, rule| if holds { Ok(()) } else { Err(Malformed(rule)) };
        check(neighbours <= MAX_NEIGHBOURS, "its cells have more than 256 neighbours")?;
        check(nodes <= MAX_NODES, "it has more than 2^20 nodes")?;
        check(
            shards.is_power_of_two() && shards <= MAX_SHARDS,
            "its number of shards is not a power of two up to 2^20",
        )?;
        check(dictionaries <= 1, "it has more than one dictionary")?;
        let numbers = cursor.take(dimensions * size_of::<f32>())?.chunks_exact(size_of::<f32>());
        let mean: Vec<f32> =
            numbers.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
        check(mean.iter().all(|x| x.is_finite()), "its mean is not finite")?;
        let codes = cursor.take(nodes as usize * Rotation::new(dimensions, seed).code_bytes())?.to_vec();
        let nodes = take_spans(&mut cursor, nodes)?;
        let cell_spans = take_spans(&mut cursor, cells)?;
        let rows = cursor.column(cells as usize)?.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(|_| Malformed("a number of its directory is too large"))?;
        let shards = take_spans(&mut cursor, shards)?;
        let dictionary = take_spans(&mut cursor, dictionaries)?.pop();
        cursor.finish()?;
        let cells: Vec<(Span, u32)> = cell_spans.into_iter().zip(rows).collect();
        let bytes = cell_bytes(dimensions, neighbours) as u64;
        let fit = |(span, rows): &(Span, u32)| u64::from(span.length) == u64::from(*rows) * bytes + HEADER_BYTES as u64;
        check(cells.iter().all(fit), "a block of cells has another size than its rows")?;
        let covered: u64 = cells.iter().map(|(_, rows)| u64::from(*rows)).sum();
        check(covered == u64::from(records), "its cells do not cover each row once")?;
        check(records == 0 || !nodes.is_empty(), "it has records and no node")?;
        Ok(Self { records, total_terms, neighbours, seed, mean, codes, nodes, cells, shards, dictionary })
    }

    /// Every block but tails, lists and texts, which are found through others.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        let cells = self.cells.iter().map(|(span, _)| span);
        let shards = self.shards.iter().filter(|span| span.length > 0);
        self.nodes.iter().chain(cells).chain(shards).chain(&self.dictionary)
    }
}

#[cfg(feature = "write")]
fn put_spans<'a>(out: &mut Vec<u8>, spans: impl Iterator<Item = &'a Span> + Clone) {
    put_column(out, spans.clone().map(|span| u64::from(span.pack)));
    put_column(out, spans.clone().map(|span| u64::from(span.offset)));
    put_column(out, spans.map(|span| u64::from(span.length)));
}

fn take_spans(cursor: &mut Cursor<'_>, count: u32) -> Result<Vec<Span>, Malformed> {
    let mut column = || cursor.column(count as usize);
    let (packs, offsets, lengths) = (column()?, column()?, column()?);
    let span = |position: usize| {
        let length =
            u32::try_from(lengths[position]).ok().filter(|length| *length <= MAX_PAYLOAD_BYTES + HEADER_BYTES as u32);
        Some(Span {
            pack: u16::try_from(packs[position]).ok()?,
            offset: u32::try_from(offsets[position]).ok()?,
            length: length?,
        })
    };
    (0..count as usize).map(span).collect::<Option<_>>().ok_or(Malformed("a number of its directory is too large"))
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root() -> Root {
        let span = |pack, offset, length| Span { pack, offset, length };
        let cell = cell_bytes(2, 4) as u32;
        Root {
            records: 10,
            total_terms: 1 << 50,
            neighbours: 4,
            seed: 7,
            mean: vec![0.5, -0.25],
            codes: vec![1; 2 * Rotation::new(2, 7).code_bytes()],
            nodes: vec![span(0, 0, 100), span(0, 100, 90)],
            cells: vec![(span(1, 0, 9 * cell + 32), 9), (span(2, 1 << 31, cell + 32), 1)],
            shards: vec![span(3, 0, 50), Span::default()],
            dictionary: Some(span(u16::MAX, 5, 4000)),
        }
    }

    #[test]
    fn a_root_comes_back() {
        assert_eq!(Root::decode(&root().encode(), 2), Ok(root()));
    }

    #[test]
    fn a_root_whose_cells_do_not_fit_is_refused() {
        let refused = |change: fn(&mut Root)| {
            let mut changed = root();
            change(&mut changed);
            assert!(Root::decode(&changed.encode(), 2).is_err());
        };
        refused(|root| root.records = 11);
        refused(|root| root.cells[0].0.length += 1);
        refused(|root| root.shards.push(Span::default()));
        refused(|root| root.mean[0] = f32::NAN);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_root_or_an_error(payload: Vec<u8>, dimensions in 1usize..4) {
            let _ = Root::decode(&payload, dimensions);
        }
    }
}
