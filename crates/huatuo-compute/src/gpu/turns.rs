//! Cosines and sines that rotary positions turn heads by.

use crate::Rotary;

/// The turns that were made last: those of all layers are alike, and a step of many texts asks for thousands of sines.
#[derive(Default)]
pub(super) struct Turns {
    frequencies: Vec<f32>,
    positions: Vec<usize>,
    bytes: Vec<u8>,
}

impl Turns {
    /// Cosine and sine of each row's pairs, as the shaders read them.
    pub fn of(&mut self, rotary: Rotary<'_>, positions: impl Iterator<Item = usize> + Clone) -> &[u8] {
        let is_known = self.frequencies == rotary.frequencies && self.positions.iter().copied().eq(positions.clone());
        if !is_known {
            self.frequencies.clear();
            self.frequencies.extend(rotary.frequencies);
            self.positions.clear();
            self.positions.extend(positions);
            self.bytes.clear();
            for (position, frequency) in
                self.positions.iter().flat_map(|at| self.frequencies.iter().map(move |f| (at, f)))
            {
                let angle = *position as f32 * frequency;
                self.bytes.extend(angle.cos().to_le_bytes());
                self.bytes.extend(angle.sin().to_le_bytes());
            }
        }
        &self.bytes
    }
}
