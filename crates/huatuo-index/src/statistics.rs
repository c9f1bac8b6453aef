//! What one call cost.

use std::ops::AddAssign;

/// Cost of one call; several add up with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Bytes read from the source.
    pub bytes: u64,
    /// Reads from the source.
    pub requests: u64,
    /// Bytes of blocks that were kept on the device since an earlier visit.
    pub stored_bytes: u64,
    /// Dependent trips: reads that ran together count as one.
    pub trips: u64,
    /// Lists of vectors scanned.
    pub lists: u64,
    /// Milliseconds waited for bytes.
    pub fetch_ms: f64,
    /// Milliseconds spent comparing vectors and scoring postings.
    pub scan_ms: f64,
    /// Milliseconds spent checking, decompressing and parsing blocks.
    pub decode_ms: f64,
}

impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.stored_bytes += other.stored_bytes;
        self.trips += other.trips;
        self.lists += other.lists;
        self.fetch_ms += other.fetch_ms;
        self.scan_ms += other.scan_ms;
        self.decode_ms += other.decode_ms;
    }
}
