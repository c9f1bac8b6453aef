//! A search as a walk that asks for bytes trip by trip, and knows nothing of where they come from.

use std::sync::Arc;

use crate::IndexError;
use crate::segment::Place;

/// A search over some layout. Whoever drives it fetches what it wants, everything in one trip, and hands it over; so layouts
/// are compared by the same driver, and what a trip costs is counted in one place.
pub(crate) trait Walk {
    /// What the next trip must bring; nothing when the walk has come to its end.
    fn wants(&mut self) -> Vec<Place>;

    /// Takes what it wanted, in the same order.
    fn take(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError>;
}
