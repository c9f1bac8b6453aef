//! How much a search may read.

/// Limits of one search. More effort finds more of the truly nearest records and reads more bytes; `docs/BENCHMARKS.md` has the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Nodes whose lists are looked at.
    pub nodes: usize,
    /// Bytes of lists read.
    pub list_bytes: usize,
    /// Records whose vectors are read because their codes leave them open.
    pub rerank: usize,
    /// Best records whose neighbours are looked at.
    pub expand: usize,
    /// Times that neighbours are looked at; each may take a trip.
    pub rounds: usize,
    /// Neighbours read in one round.
    pub neighbours: usize,
    /// Bytes of postings read beyond the shards of the question's terms, rarest terms first.
    pub posting_bytes: usize,
}

impl Default for Effort {
    /// What a cold question of a browser is meant to cost, from the curve's knee.
    fn default() -> Self {
        Self {
            nodes: 32,
            list_bytes: 192 << 10,
            rerank: 40,
            expand: 16,
            rounds: 1,
            neighbours: 64,
            posting_bytes: 64 << 10,
        }
    }
}

impl Effort {
    /// Reads whatever could matter: for measuring what a limit costs.
    pub fn unlimited() -> Self {
        let all = usize::MAX;
        Self { nodes: all, list_bytes: all, rerank: all, expand: 0, rounds: 0, neighbours: 0, posting_bytes: all }
    }
}
