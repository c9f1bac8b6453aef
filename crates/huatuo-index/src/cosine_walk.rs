//! The walk to the cosines of records that were found by their words.

use std::sync::Arc;

use crate::IndexError;
use crate::cell::Cell;
use crate::segment::{Place, Segment};
use crate::walk::Walk;

/// Reads the cells of some rows, all in one trip. It is apart from the walk to the nearest, so that what that finds does not depend on
/// which of them is ahead.
pub(crate) struct CosineWalk<'a> {
    segments: &'a [Segment],
    query: &'a [f32],
    asked: Vec<Place>,
    /// Cosine and row, among all of the index, of what was read.
    pub found: Vec<(f32, u32)>,
}

impl<'a> CosineWalk<'a> {
    /// A walk to rows among all of the index; those of no segment are passed over.
    pub fn new(segments: &'a [Segment], query: &'a [f32], rows: impl Iterator<Item = u32>) -> Self {
        let place = |row: u32| {
            let after = segments.partition_point(|segment| segment.first_row <= row);
            let segment = segments[..after].last()?;
            let own = row - segment.first_row;
            (own < segment.entry.records).then(|| segment.cell(own))
        };
        Self { segments, query, asked: rows.filter_map(place).collect(), found: Vec::new() }
    }
}

impl Walk for CosineWalk<'_> {
    fn wants(&mut self) -> Vec<Place> {
        self.asked.clone()
    }

    fn take(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        for (place, payload) in std::mem::take(&mut self.asked).iter().zip(payloads) {
            let segment = &self.segments[usize::from(place.segment)];
            let cell = Cell::parse(payload, segment.dimensions).map_err(|rule| segment.at(place).corrupt(rule))?;
            let cosine = cell.vector.product(self.query).clamp(-1.0, 1.0);
            self.found.push((cosine, segment.first_row + place.number));
        }
        Ok(())
    }
}
