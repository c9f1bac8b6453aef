//! Cutting a stream of bytes into the rows of a matrix.

/// What has come of a row that is not whole yet.
#[derive(Default)]
pub(crate) struct RowCutter {
    row_bytes: usize,
    pending: Vec<u8>,
}

impl RowCutter {
    /// For rows of so many bytes.
    pub fn new(row_bytes: usize) -> Self {
        Self { row_bytes, pending: Vec::new() }
    }

    /// Takes the next bytes, which may end anywhere, and gives the rows that are whole.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        if self.row_bytes == 0 {
            return;
        }
        if !self.pending.is_empty() {
            let missing = bytes.len().min(self.row_bytes - self.pending.len());
            self.pending.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.pending.len() < self.row_bytes {
                return;
            }
            take(&self.pending);
            self.pending.clear();
        }
        let rows = bytes.chunks_exact(self.row_bytes);
        self.pending.extend_from_slice(rows.remainder());
        rows.for_each(take);
    }
}
