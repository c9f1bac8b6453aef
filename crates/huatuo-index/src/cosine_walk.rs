//! The walk to the cosine of a record that was found by its words.

use std::sync::Arc;

use crate::IndexError;
use crate::cell::Cell;
use crate::segment::{Place, Segment};
use crate::walk::Walk;

/// Reads the cell of a row. It is apart from the walk to the nearest, so that what that finds does not depend on which of them is ahead.
pub(crate) struct CosineWalk<'a> {
    segment: &'a Segment,
    query: &'a [f32],
    asked: Option<Place>,
    /// Cosine and row, among all of the index.
    pub found: Option<(f32, u32)>,
}

impl<'a> CosineWalk<'a> {
    /// A walk to a row of a segment.
    pub fn new(segment: &'a Segment, row: u32, query: &'a [f32]) -> Self {
        Self { segment, query, asked: Some(segment.cell(row)), found: None }
    }
}

impl Walk for CosineWalk<'_> {
    fn wants(&mut self) -> Vec<Place> {
        self.asked.into_iter().collect()
    }

    fn take(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        if let (Some(place), [payload]) = (self.asked.take(), payloads) {
            let wrong = |rule| self.segment.at(&place).corrupt(rule);
            let cell = Cell::parse(payload, self.segment.dimensions).map_err(wrong)?;
            let cosine = cell.vector.product(self.query).clamp(-1.0, 1.0);
            self.found = Some((cosine, self.segment.first_row + place.number));
        }
        Ok(())
    }
}
