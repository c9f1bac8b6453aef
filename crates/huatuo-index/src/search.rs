//! Candidates for a question, each with its score by vectors and by BM25. Ranking them is the caller's matter.

use huatuo_fetch::clock::now_ms;

use crate::bm25::Match;
use crate::dense_walk::{DenseWalk, best};
use crate::lexical_walk::LexicalWalk;
use crate::segment::Place;
use crate::vectors::normalise;
use crate::walk::Walk;
use crate::{Decoys, Effort, Index, IndexError, Statistics};

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct SearchQuery<'a> {
    /// The question's vector, `[dimensions]`, of any length; without it no vector is read.
    pub vector: Option<&'a [f32]>,
    /// The question's text; without a term in it no posting is read.
    pub text: &'a str,
    /// Candidates found by vectors, and as many by BM25.
    pub candidates: usize,
    /// How much may be read.
    pub effort: Effort,
    /// Searches that hide this one from the host.
    pub decoys: Decoys,
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
    /// The best rows of each decoy, best first: their texts are to be read with those of the hits, and dropped.
    pub decoys: Vec<Vec<u32>>,
    /// Cost of this search, its decoys included.
    pub statistics: Statistics,
}

impl Index {
    /// Finds candidates. What vectors and words need is fetched side by side: nodes with shards, lists with tails, then the cells
    /// of the candidates of both, then those of neighbours.
    ///
    /// # Errors
    /// [`IndexError::DimensionMismatch`] and [`IndexError::NotFinite`] for the question's vector;
    /// [`IndexError::VersionMix`] when a pack is gone; those of a damaged block.
    pub async fn search(&self, query: &SearchQuery<'_>) -> Result<SearchOutcome, IndexError> {
        self.search_ahead(query, |_| Vec::new()).await
    }

    /// As [`Index::search`]; `likely` is given the candidates before neighbours are looked at and says of which rows the texts are
    /// probably wanted. They are read beside neighbours and wait in the block cache.
    ///
    /// # Errors
    /// As [`Index::search`]; texts read ahead that can't be had are no error here.
    pub async fn search_ahead(
        &self,
        query: &SearchQuery<'_>,
        likely: impl Fn(&[Hit]) -> Vec<u32>,
    ) -> Result<SearchOutcome, IndexError> {
        let start = now_ms();
        let mut statistics = Statistics::default();
        let vector = query.vector.map(|vector| self.query_vector(vector)).transpose()?;
        let mut lexical = LexicalWalk::new(&self.segments, query.text, query.effort);
        let (mut dense, mut decoys) = (Vec::new(), Vec::new());
        if let Some(vector) = &vector {
            for segment in self.segments.iter().filter(|segment| segment.root.records > 0) {
                dense.push(DenseWalk::new(segment, vector.clone(), query.effort, query.candidates)?);
            }
            decoys = query.decoys.walks(&self.segments, query.effort, query.candidates)?;
        }
        let mut decoy_shards = query.decoys.shards(&self.segments, &lexical.wants());
        let (mut matches, mut waited) = (None, 0.0);
        loop {
            if matches.is_none() && lexical.is_done() {
                matches = Some(lexical.matches());
            }
            if let Some(Some(matches)) = &matches {
                join_candidates(&mut dense, matches, query.candidates);
            }
            let mut wanted: Vec<Vec<Place>> = vec![lexical.wants()];
            wanted.extend(dense.iter_mut().map(Walk::wants));
            if wanted.iter().all(Vec::is_empty) {
                break;
            }
            let mut beside = std::mem::take(&mut decoy_shards);
            if let (Some(matches), true, true) =
                (&matches, vector.is_some(), dense.iter().all(DenseWalk::has_candidates))
            {
                let likely = likely(&join(Some(cosines(&dense)), matches.as_deref(), query.candidates));
                let of_decoys = decoys.iter().flat_map(|decoy| best_rows(decoy, likely.len())).collect();
                beside.extend(self.known_text_places(&[likely, of_decoys].concat()));
            }
            let decoys_want: Vec<Vec<Place>> = decoys.iter_mut().map(Walk::wants).collect();

            let places = [wanted.concat(), decoys_want.concat(), beside].concat();
            let before = now_ms();
            let payloads = self.blocks_each(&places, &mut statistics).await;
            waited += now_ms() - before;
            let mut payloads = payloads.into_iter();
            let walks = std::iter::once(&mut lexical as &mut dyn Walk)
                .chain(dense.iter_mut().map(|walk| walk as &mut dyn Walk));
            for (walk, wanted) in walks.zip(&wanted) {
                let own: Vec<_> = payloads.by_ref().take(wanted.len()).collect::<Result<_, _>>()?;
                if !own.is_empty() {
                    walk.take(&own)?;
                }
            }
            // A decoy that can't go on ends: the question does not depend on it.
            let mut goes_on = decoys_want.iter().zip(&mut decoys).map(|(wanted, walk)| {
                let own: Result<Vec<_>, _> = payloads.by_ref().take(wanted.len()).collect();
                own.and_then(|own| walk.take(&own)).is_ok()
            });
            let goes_on: Vec<bool> = goes_on.by_ref().collect();
            let mut goes_on = goes_on.into_iter();
            decoys.retain(|_| goes_on.next().unwrap_or(false));
        }
        statistics.lists += dense.iter().map(|walk| walk.lists_read).sum::<u64>();
        let matches = matches.flatten();
        let hits = join(vector.is_some().then(|| cosines(&dense)), matches.as_deref(), query.candidates);
        let decoys = decoys.iter().map(|decoy| best_rows(decoy, query.candidates)).collect();
        statistics.scan_ms += now_ms() - start - waited;
        Ok(SearchOutcome { hits, decoys, statistics })
    }

    fn query_vector(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        let expected = self.manifest().dimensions;
        if vector.len() != expected {
            return Err(IndexError::DimensionMismatch { expected, found: vector.len() });
        }
        normalise(vector).map_err(|position| IndexError::NotFinite { position })
    }
}

/// Has the cosines of the best by words read with those of the best by codes, in the same trip.
fn join_candidates(dense: &mut [DenseWalk<'_>], matches: &[Match], limit: usize) {
    let lexical = best(matches.iter().map(|found| (found.score, found.row)).collect(), limit);
    for walk in dense.iter_mut().filter(|walk| walk.is_before_cells()) {
        let rows = walk.rows();
        let own = lexical.iter().filter(|(_, row)| rows.contains(row));
        walk.also_read(own.map(|(_, row)| row - rows.start));
    }
}

/// The best rows of a walk, among all of the index.
fn best_rows(walk: &DenseWalk<'_>, limit: usize) -> Vec<u32> {
    walk.found().iter().take(limit).map(|(_, row)| walk.rows().start + row).collect()
}

/// Cosine and row, among all of the index, of what the walks read.
fn cosines(dense: &[DenseWalk<'_>]) -> Vec<(f32, u32)> {
    let of = |walk: &DenseWalk<'_>| {
        let first = walk.rows().start;
        walk.found().iter().map(|(cosine, row)| (*cosine, first + row)).collect::<Vec<_>>()
    };
    dense.iter().flat_map(of).collect()
}

/// The best rows by either method, in order, each with both scores.
fn join(cosines: Option<Vec<(f32, u32)>>, matches: Option<&[Match]>, limit: usize) -> Vec<Hit> {
    let lexical = matches.into_iter().flatten().map(|found| (found.score, found.row)).collect();
    let mut by_row = cosines.clone();
    if let Some(by_row) = &mut by_row {
        by_row.sort_by_key(|(_, row)| *row);
    }
    let mut rows: Vec<u32> =
        best(cosines.unwrap_or_default(), limit).into_iter().chain(best(lexical, limit)).map(|(_, row)| row).collect();
    rows.sort_unstable();
    rows.dedup();
    let hit = |row: u32| {
        let found = matches.map(|matches| matches.binary_search_by_key(&row, |found| found.row).map(|at| matches[at]));
        let cosine =
            |read: &Vec<(f32, u32)>| read.binary_search_by_key(&row, |(_, row)| *row).ok().map(|at| read[at].0);
        Hit {
            row,
            dense: by_row.as_ref().and_then(cosine),
            bm25: found.map(|found| found.map_or(0.0, |found| found.score)),
            bm25_coverage: found.map(|found| found.map_or(0.0, |found| found.coverage)),
        }
    };
    rows.into_iter().map(hit).collect()
}
