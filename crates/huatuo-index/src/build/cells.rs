//! The cells of a partition: each row's vector, neighbours and place of its text.

use super::cluster::Clusters;
use super::compress::Sealer;
use super::order::Order;
use super::pack::{PackWriter, Sink, TARGET_BYTES};
use super::partition::SplitChunks;
use super::partition_packs::PartitionPacks;
use super::rows::Rows;
use super::stage::NEIGHBOURS;
use crate::cell::{TextPlace, cell_bytes, fill_neighbours, put_cell};
use crate::{IndexError, Kind};

/// Writes a partition's cells, a pack for each block, and gives the packs; its texts' packs are numbered from `first_pack`.
pub(crate) fn write_cells(
    split: &SplitChunks<'_>,
    partition: usize,
    clusters: &Clusters,
    (out, first_pack): (&PartitionPacks, u32),
    order: &Order,
    dimensions: usize,
    sink: &Sink<'_>,
) -> Result<Vec<u8>, IndexError> {
    let per_pack = (TARGET_BYTES / cell_bytes(dimensions, NEIGHBOURS)).max(1);
    let (own, guests) = (split.own(partition)?, split.guests(partition)?);
    let cells = Cells { own: &own, guests: &guests, clusters, out, first_pack, order };
    let mut written = PartitionPacks::default();
    for chunk in (0..clusters.order.len()).collect::<Vec<_>>().chunks(per_pack) {
        let block = Sealer::seal_raw(Kind::CELLS, &cells.encode(chunk))?;
        let mut writer = PackWriter::new(sink);
        writer.push(&block)?;
        written.text_packs.extend(writer.finish()?);
    }
    Ok(written.encode())
}

/// What the cells of a partition are made of.
struct Cells<'a> {
    own: &'a Rows,
    guests: &'a Rows,
    clusters: &'a Clusters,
    out: &'a PartitionPacks,
    first_pack: u32,
    order: &'a Order,
}

impl Cells<'_> {
    fn encode(&self, rows: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let row_at = |position: u32| {
            let position = position as usize;
            let id = self.own.ids.get(position).or_else(|| self.guests.ids.get(position - self.own.len()));
            id.map_or(u32::MAX, |id| self.order.row_of[*id as usize])
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
