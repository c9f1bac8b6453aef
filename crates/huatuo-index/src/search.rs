//! Candidates for a question, each with its score by vectors and by BM25. Ranking them is the caller's matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use huatuo_fetch::clock::now_ms;

use crate::bm25::{Match, score};
use crate::postings::{Posting, Shard};
use crate::reader::check_rows;
use crate::root::Entry;
use crate::terms::{shard_of, term_keys};
use crate::vectors::{VectorBlock, normalise};
use crate::{Index, IndexError, Statistics};

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct SearchQuery<'a> {
    /// The question's vector, `[dimensions]`, of any length; without it no vector is read.
    pub vector: Option<&'a [f32]>,
    /// The question's text; without a term in it no posting is read.
    pub text: &'a str,
    /// Records that the caller will show; as many candidates at least are found by each method.
    pub top_k: usize,
    /// Candidates found by vectors, and as many by BM25.
    pub candidates: usize,
}

/// A candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Row of the record.
    pub row: u32,
    /// Cosine of the question's vector and the record's, -1 to 1; nothing when the question has no vector.
    pub dense: Option<f32>,
    /// BM25 score, 0 when no term matches; nothing when the question's text has no term.
    pub bm25: Option<f32>,
    /// Share of the idf of the question's terms that the record's terms make up, 0 to 1.
    pub bm25_coverage: Option<f32>,
}

/// Candidates and what finding them cost.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOutcome {
    /// The best by vectors and the best by BM25 together, in the order of rows.
    pub hits: Vec<Hit>,
    /// Cost of this search.
    pub statistics: Statistics,
}

/// Which blocks a question needs.
struct Plan {
    /// Keys of the question's distinct terms, ascending.
    terms: Vec<u64>,
    /// Blocks of vectors, then shards of terms.
    entries: Vec<Entry>,
    vector_blocks: usize,
}

impl Index {
    /// Finds candidates in one dependent trip: all vectors and the shards of the question's terms, in parallel.
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`] and [`IndexError::NotFinite`] for the question's vector;
    /// [`IndexError::VersionMix`] when a pack is gone; those of a damaged block.
    pub async fn search(&self, query: &SearchQuery<'_>) -> Result<SearchOutcome, IndexError> {
        let mut statistics = Statistics::default();
        let vector = query.vector.map(|vector| self.query_vector(vector)).transpose()?;
        let plan = self.plan(vector.is_some(), query.text);
        let payloads = self.blocks(&plan.entries, &mut statistics).await?;
        let (vectors, shards) = payloads.split_at(plan.vector_blocks);
        let (vector_entries, shard_entries) = plan.entries.split_at(plan.vector_blocks);

        let start = now_ms();
        let cosines = match vector {
            Some(vector) => Some(self.cosines(&vector, vector_entries, vectors)?),
            None => None,
        };
        let matches = match plan.terms.is_empty() {
            true => None,
            false => Some(score(self.directory.corpus, &self.postings(&plan.terms, shard_entries, shards)?)),
        };
        let hits = join(cosines.as_deref(), matches.as_deref(), query.candidates.max(query.top_k));
        statistics.scan_ms += now_ms() - start;
        Ok(SearchOutcome { hits, statistics })
    }

    fn query_vector(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        let expected = self.manifest().dimensions;
        if vector.len() != expected {
            return Err(IndexError::DimensionMismatch { expected, found: vector.len() });
        }
        normalise(vector).map_err(|position| IndexError::NotFinite { position })
    }

    fn plan(&self, dense: bool, text: &str) -> Plan {
        let mut terms = term_keys(text);
        terms.sort_unstable();
        terms.dedup();
        let mut shards: Vec<u32> = terms.iter().map(|key| shard_of(*key, self.directory.shards)).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut entries = if dense { self.directory.vectors.clone() } else { Vec::new() };
        let vector_blocks = entries.len();
        entries.extend(shards.into_iter().filter_map(|shard| self.directory.shard(shard)));
        Plan { terms, entries, vector_blocks }
    }

    /// The cosine of every row, by row.
    fn cosines(&self, vector: &[f32], entries: &[Entry], payloads: &[Arc<Vec<u8>>]) -> Result<Vec<f32>, IndexError> {
        let mut cosines = Vec::new();
        for (entry, payload) in entries.iter().zip(payloads) {
            let scanned = VectorBlock::parse(payload, vector.len()).and_then(|block| {
                check_rows(entry, block.first_row, block.rows as usize)?;
                block.scan(vector, &mut cosines)
            });
            scanned.map_err(|rule| self.at(entry).corrupt(rule))?;
        }
        Ok(cosines)
    }

    /// The postings of each term; none for a term that no row has.
    fn postings(
        &self,
        terms: &[u64],
        entries: &[Entry],
        payloads: &[Arc<Vec<u8>>],
    ) -> Result<Vec<Vec<Posting>>, IndexError> {
        let mut shards = BTreeMap::new();
        for (entry, payload) in entries.iter().zip(payloads) {
            let shard = Shard::parse(payload).and_then(|shard| {
                check_rows(entry, shard.number, shard.terms.len())?;
                Ok(shard)
            });
            shards.insert(entry.first, (entry, shard.map_err(|rule| self.at(entry).corrupt(rule))?));
        }
        let of_term = |key: &u64| {
            let Some((entry, shard)) = shards.get(&shard_of(*key, self.directory.shards)) else {
                return Ok(Vec::new());
            };
            let postings = shard.find(*key).map(|term| term.postings(self.directory.corpus.records)).transpose();
            Ok(postings.map_err(|rule| self.at(entry).corrupt(rule))?.unwrap_or_default())
        };
        terms.iter().map(of_term).collect()
    }
}

/// The best rows by either method, in order, each with both scores.
fn join(cosines: Option<&[f32]>, matches: Option<&[Match]>, limit: usize) -> Vec<Hit> {
    let dense = cosines.into_iter().flatten().zip(0..).map(|(cosine, row)| (*cosine, row));
    let lexical = matches.into_iter().flatten().map(|found| (found.score, found.row));
    let mut rows = best(dense.collect(), limit);
    rows.extend(best(lexical.collect(), limit));
    rows.sort_unstable();
    rows.dedup();
    let hit = |row: u32| {
        let found = matches.map(|matches| matches.binary_search_by_key(&row, |found| found.row).map(|at| matches[at]));
        Hit {
            row,
            dense: cosines.map(|cosines| cosines[row as usize]),
            bm25: found.map(|found| found.map_or(0.0, |found| found.score)),
            bm25_coverage: found.map(|found| found.map_or(0.0, |found| found.coverage)),
        }
    };
    rows.into_iter().map(hit).collect()
}

/// Rows with the highest scores, in no order; among equals the lower rows.
fn best(mut scored: Vec<(f32, u32)>, limit: usize) -> Vec<u32> {
    if scored.len() > limit {
        scored.select_nth_unstable_by(limit, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(limit);
    }
    scored.into_iter().map(|(_, row)| row).collect()
}
