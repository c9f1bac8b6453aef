//! Ranking metrics with one relevant record a query.

/// Means over queries of the usual ranking metrics, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetrievalMetrics {
    /// Queries counted.
    pub queries: usize,
    /// Share whose record is first.
    pub recall_at_1: f64,
    /// Share whose record is among the first ten.
    pub recall_at_10: f64,
    /// Share whose record is among the first hundred.
    pub recall_at_100: f64,
    /// Mean reciprocal rank, zero beyond ten.
    pub mrr_at_10: f64,
    /// Normalised discounted cumulative gain over the first ten (Järvelin and Kekäläinen 2002).
    pub ndcg_at_10: f64,
}

impl RetrievalMetrics {
    /// Metrics from the rank of each query's record, counted from 1; `None` where it was not found.
    pub fn from_ranks(ranks: impl IntoIterator<Item = Option<usize>>) -> Self {
        let mut sums = Self::default();
        for rank in ranks {
            sums.queries += 1;
            let Some(rank) = rank else { continue };
            let within = |k: usize| f64::from(u8::from(rank <= k));
            sums.recall_at_1 += within(1);
            sums.recall_at_10 += within(10);
            sums.recall_at_100 += within(100);
            sums.mrr_at_10 += within(10) / rank as f64;
            sums.ndcg_at_10 += within(10) / (rank as f64 + 1.0).log2();
        }
        let n = sums.queries.max(1) as f64;
        for value in [
            &mut sums.recall_at_1,
            &mut sums.recall_at_10,
            &mut sums.recall_at_100,
            &mut sums.mrr_at_10,
            &mut sums.ndcg_at_10,
        ] {
            *value /= n;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_small_example_are_those_counted_by_hand() {
        let m = RetrievalMetrics::from_ranks([Some(1), Some(2), Some(11), None]);
        assert_eq!((m.recall_at_1, m.recall_at_10, m.recall_at_100), (0.25, 0.5, 0.75));
        assert_eq!(m.mrr_at_10, (1.0 + 0.5) / 4.0);
        assert!((m.ndcg_at_10 - (1.0 + 1.0 / 3f64.log2()) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn no_query_gives_zeros() {
        assert_eq!(RetrievalMetrics::from_ranks([]), RetrievalMetrics::default());
    }
}
