//! The numbers that rows get: partition by partition, each in its own order.

use rayon::prelude::*;

use super::partition::SplitChunks;
use super::stage::clusters_of;
use super::work::{Work, damaged};
use crate::IndexError;

/// The part with the order of all rows.
pub(crate) const ORDER_PART: &str = "order";
/// The part with the first row of each partition.
pub(crate) const FIRSTS_PART: &str = "firsts";
/// Bytes of a number in both.
const NUMBER_BYTES: usize = 4;

/// The order of all rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Order {
    /// Row of each position of the input.
    pub row_of: Vec<u32>,
    /// Squared distance of each position of the input from its list's centroid.
    pub distance_of: Vec<f32>,
}

impl Order {
    /// That of clustered partitions, with the first row of each.
    pub fn of_partitions(
        work: &Work,
        split: &SplitChunks<'_>,
        partitions: usize,
        records: u32,
    ) -> Result<(Self, Vec<u32>), IndexError> {
        let own = |partition: usize| {
            let (own, clusters) = (split.own(partition)?, clusters_of(work, partition)?);
            let ids: Vec<u32> = clusters.order.iter().map(|position| own.ids[*position as usize]).collect();
            Ok::<_, IndexError>((ids, clusters.distances))
        };
        let orders: Vec<_> = (0..partitions).into_par_iter().map(own).collect::<Result<_, _>>()?;
        let mut order = Self { row_of: vec![u32::MAX; records as usize], distance_of: vec![0.0; records as usize] };
        let (mut row, mut firsts) = (0, Vec::new());
        for (ids, distances) in orders {
            firsts.push(row);
            for (id, distance) in ids.into_iter().zip(distances) {
                (order.row_of[id as usize], order.distance_of[id as usize]) = (row, distance);
                row += 1;
            }
        }
        Ok((order, firsts))
    }

    pub fn encode(&self) -> Vec<u8> {
        let distances = self.distance_of.iter().flat_map(|distance| distance.to_le_bytes());
        self.row_of.iter().flat_map(|row| row.to_le_bytes()).chain(distances).collect()
    }

    pub fn decode(bytes: &[u8], records: u32) -> Result<Self, IndexError> {
        if bytes.len() != 2 * NUMBER_BYTES * records as usize {
            return Err(damaged("the order of rows is cut off"));
        }
        let (rows, distances) = bytes.split_at(bytes.len() / 2);
        let distance_of = decode_numbers(distances).into_iter().map(f32::from_bits).collect();
        Ok(Self { row_of: decode_numbers(rows), distance_of })
    }
}

/// Numbers of four bytes each.
pub(crate) fn decode_numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(NUMBER_BYTES).map(|x| u32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_comes_back() {
        let order = Order { row_of: vec![1, 0], distance_of: vec![0.5, 0.25] };
        assert_eq!(Order::decode(&order.encode(), 2).unwrap(), order);
        assert!(Order::decode(&order.encode(), 3).is_err());
    }
}
