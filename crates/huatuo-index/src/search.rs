//! Candidates for a question, each with its score by vectors and by BM25. Ranking them is the caller's matter.

use huatuo_fetch::clock::now_ms;

use crate::bm25::{Match, QuestionTerms};
use crate::cosine_walk::CosineWalk;
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
    /// What the question's terms tell: postings are read up to a limit, so a hit's coverage may be less than that of its text.
    pub terms: QuestionTerms,
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
        let mut of_matches: Option<Vec<CosineWalk<'_>>> = None;
        loop {
            // What is in memory makes no walk wait for another's trip.
            self.go_on_in_memory(&mut lexical)?;
            if matches.is_none() && lexical.is_done() {
                matches = Some(lexical.matches());
            }
            if let (Some(Some(matches)), Some(vector), None) = (&matches, &vector, &of_matches) {
                let walk = |(_, row)| {
                    let (segment, own) = self.segment_of(row)?;
                    Ok::<_, IndexError>(CosineWalk::new(segment, own, vector))
                };
                let best = best(scores(matches), query.candidates);
                of_matches = Some(best.into_iter().map(walk).collect::<Result<_, _>>()?);
            }
            let mut wanted = vec![lexical.wants()];
            for walk in &mut dense {
                self.go_on_in_memory(walk)?;
                wanted.push(walk.wants());
            }
            for walk in of_matches.iter_mut().flatten() {
                self.go_on_in_memory(walk)?;
                wanted.push(walk.wants());
            }
            if wanted.iter().all(Vec::is_empty) {
                break;
            }
            let decoys_want: Vec<Vec<Place>> = decoys.iter_mut().map(Walk::wants).collect();
            let mut beside = std::mem::take(&mut decoy_shards);
            if let (Some(matches), true, true) =
                (&matches, vector.is_some(), dense.iter().all(DenseWalk::has_candidates))
            {
                let cosines = cosines(&dense, of_matches.as_deref().unwrap_or_default());
                let likely = likely(&join(Some(cosines), matches.as_deref(), query.candidates));
                let of_decoys = decoys.iter().flat_map(|decoy| best_rows(decoy, likely.len())).collect();
                beside.extend(self.known_text_places(&[likely, of_decoys].concat()));
            }
            let places = [wanted.concat(), decoys_want.concat(), beside].concat();
            let before = now_ms();
            let payloads = self.blocks_each(&places, &mut statistics).await;
            waited += now_ms() - before;

            let mut payloads = payloads.into_iter();
            let mut next = |wanted: &[Place]| payloads.by_ref().take(wanted.len()).collect::<Vec<_>>();
            let own = dense.iter_mut().map(|walk| walk as &mut dyn Walk);
            let own = own.chain(of_matches.iter_mut().flatten().map(|walk| walk as &mut dyn Walk));
            for (walk, wanted) in std::iter::once(&mut lexical as &mut dyn Walk).chain(own).zip(&wanted) {
                let payloads: Vec<_> = next(wanted).into_iter().collect::<Result<_, _>>()?;
                if !payloads.is_empty() {
                    walk.take(&payloads)?;
                }
            }
            // A decoy that can't go on ends: the question does not depend on it.
            let mut wanted = decoys_want.iter();
            decoys.retain_mut(|walk| {
                let payloads: Result<Vec<_>, _> = next(wanted.next().map_or(&[], Vec::as_slice)).into_iter().collect();
                payloads.and_then(|payloads| walk.take(&payloads)).is_ok()
            });
        }
        statistics.lists += dense.iter().map(|walk| walk.lists_read).sum::<u64>();
        let matches = matches.flatten();
        let cosines = vector.is_some().then(|| cosines(&dense, of_matches.as_deref().unwrap_or_default()));
        let hits = join(cosines, matches.as_deref(), query.candidates);
        let decoys = decoys.iter().map(|decoy| best_rows(decoy, query.candidates)).collect();
        statistics.scan_ms += now_ms() - start - waited;
        Ok(SearchOutcome { hits, terms: lexical.question_terms(), decoys, statistics })
    }

    fn go_on_in_memory(&self, walk: &mut dyn Walk) -> Result<(), IndexError> {
        loop {
            let wanted = walk.wants();
            match self.in_memory(&wanted) {
                Some(payloads) if !payloads.is_empty() => walk.take(&payloads)?,
                _ => return Ok(()),
            }
        }
    }

    fn query_vector(&self, vector: &[f32]) -> Result<Vec<f32>, IndexError> {
        let expected = self.manifest().dimensions;
        if vector.len() != expected {
            return Err(IndexError::DimensionMismatch { expected, found: vector.len() });
        }
        normalise(vector).map_err(|position| IndexError::NotFinite { position })
    }
}

/// BM25 score and row.
fn scores(matches: &[Match]) -> Vec<(f32, u32)> {
    matches.iter().map(|found| (found.score, found.row)).collect()
}

/// The best rows of a walk, among all of the index.
fn best_rows(walk: &DenseWalk<'_>, limit: usize) -> Vec<u32> {
    walk.found().iter().take(limit).map(|(_, row)| walk.rows().start + row).collect()
}

/// Cosine and row, among all of the index, of what the walks read, each row once.
fn cosines(dense: &[DenseWalk<'_>], of_matches: &[CosineWalk<'_>]) -> Vec<(f32, u32)> {
    let of = |walk: &DenseWalk<'_>| {
        let first = walk.rows().start;
        walk.found().iter().map(|(cosine, row)| (*cosine, first + row)).collect::<Vec<_>>()
    };
    let mut found: Vec<(f32, u32)> = dense.iter().flat_map(of).collect();
    found.extend(of_matches.iter().filter_map(|walk| walk.found));
    found.sort_by_key(|(_, row)| *row);
    found.dedup_by_key(|(_, row)| *row);
    found
}

/// The best rows by either method, in order, each with both scores; cosines are in the order of rows.
fn join(cosines: Option<Vec<(f32, u32)>>, matches: Option<&[Match]>, limit: usize) -> Vec<Hit> {
    let lexical = matches.map(scores).unwrap_or_default();
    let by_row = cosines.clone();
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
