//! The retriever as `consult()` sees it.

use std::cell::Cell;

use futures_util::future::join;
use huatuo_core::{Conversation, Question, Reference, Retrieval, Retriever};
use huatuo_fetch::clock::now_ms;
use huatuo_index::{Decoys, Effort, Embed, Hit, Index, Record, SearchOutcome, SearchQuery, Statistics};

use crate::{Calibration, Ranked, RetrieveError, TextEncoder, rank, standalone_query};

/// Candidates taken from each of the two searches: more cost bytes and change the first few next to never.
const CANDIDATES: usize = 20;

/// The text of a record that is searched, by vector and by words alike: all wordings of its question, its answer, or both.
pub fn searched_text(embed: Embed, questions: &[String], answer: &str) -> String {
    match embed {
        Embed::Question => questions.join(" "),
        Embed::Answer => answer.to_owned(),
        Embed::Both => format!(
            "{}
{answer}",
            questions.join(" ")
        ),
    }
}

/// An encoder over an index.
pub struct HybridRetriever<E: TextEncoder> {
    encoder: E,
    index: Index,
    calibration: Calibration,
    effort: Effort,
    /// What hides a question, and the number of the next one.
    decoys: Cell<Decoys>,
    /// A retrieval only asks of the retriever; what it cost is kept beside.
    statistics: Cell<Statistics>,
}

impl<E: TextEncoder> HybridRetriever<E> {
    /// Joins an encoder and an index that was built with it.
    pub fn new(encoder: E, index: Index, calibration: Calibration) -> Result<Self, RetrieveError> {
        let built_with = &index.manifest().encoder.sha256;
        if built_with != encoder.sha256() {
            let (index, encoder) = (built_with.clone(), encoder.sha256().to_owned());
            return Err(RetrieveError::EncoderMismatch { index, encoder });
        }
        Ok(Self {
            encoder,
            index,
            calibration,
            effort: Effort::default(),
            decoys: Cell::default(),
            statistics: Cell::default(),
        })
    }

    /// Has searches read more or less than they do by default.
    pub fn set_effort(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// Has `count` searches for nothing go with every question, their topics drawn from `seed`, so that a host does not see what
    /// it is about. Each reads about as much as a question does by its vector.
    pub fn set_decoys(&mut self, count: usize, seed: u64) {
        self.decoys.set(Decoys { count, seed, question: 0 });
    }

    fn decoys(&self) -> Decoys {
        let decoys = self.decoys.get();
        self.decoys.set(Decoys { question: decoys.question.wrapping_add(1), ..decoys });
        decoys
    }

    /// The encoder.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Calibration in use.
    pub fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// What the last retrieval read and how long each stage took.
    pub fn statistics(&self) -> Statistics {
        self.statistics.get()
    }

    /// The vector of a query and the candidates of both searches, unranked; what texts will need comes beside them.
    pub async fn search(&self, query: &str, candidates: usize) -> Result<(SearchOutcome, f64), RetrieveError> {
        self.search_ahead(query, candidates, 0).await
    }

    /// The same; the texts of the `likely` best come beside the last trips.
    async fn search_ahead(
        &self,
        query: &str,
        candidates: usize,
        likely: usize,
    ) -> Result<(SearchOutcome, f64), RetrieveError> {
        let started = now_ms();
        let vector = self.encoder.embed(query).await?;
        let embed_ms = now_ms() - started;
        let query =
            SearchQuery { vector: Some(&vector), text: query, candidates, effort: self.effort, decoys: self.decoys() };
        let likely = |hits: &[Hit]| {
            let ranked = rank(hits, self.calibration.lexical_weight);
            ranked.iter().take(likely).map(|ranked| ranked.hit.row).collect()
        };
        let (outcome, prepared) = join(self.index.search_ahead(&query, likely), self.index.prepare_texts()).await;
        let (mut outcome, mut prepared) = (outcome?, prepared?);
        prepared.trips = prepared.trips.saturating_sub(outcome.statistics.trips); // both ran together
        outcome.statistics += prepared;
        Ok((outcome, embed_ms))
    }

    /// The best records of a query with their scores.
    pub async fn find(&self, query: &str, limit: usize) -> Result<(Vec<(Ranked, Record)>, f64), RetrieveError> {
        self.find_first(query, limit, async |_: Ranked, _: &Record| ()).await
    }

    /// The same; `on_first` runs with the best one as soon as it is here.
    async fn find_first(
        &self,
        query: &str,
        limit: usize,
        on_first: impl AsyncFnOnce(Ranked, &Record),
    ) -> Result<(Vec<(Ranked, Record)>, f64), RetrieveError> {
        let (outcome, embed_ms) = self.search_ahead(query, CANDIDATES, limit).await?;
        self.statistics.set(outcome.statistics);
        let mut ranked = rank(&outcome.hits, self.calibration.lexical_weight);
        ranked.truncate(limit);
        let Some(&best) = ranked.first() else { return Ok((Vec::new(), embed_ms)) };
        let rows: Vec<u32> = ranked.iter().map(|r| r.hit.row).collect();
        let with_text = |ranked: Ranked, record: &Record| {
            let text =
                searched_text(self.index.manifest().embed, std::slice::from_ref(&record.question), &record.answer);
            ranked.with_text(&outcome.terms, &text)
        };
        let on_first = async |record: &Record| on_first(with_text(best, record), record).await;
        // Most of these came beside the search; those of decoys are dropped.
        let of_decoys: Vec<u32> = outcome.decoys.iter().flat_map(|rows| rows.iter().take(limit)).copied().collect();
        let (found, dropped) = join(self.index.records_first(&rows, on_first), self.index.records(&of_decoys)).await;
        let (records, mut statistics) = found?;
        statistics += outcome.statistics;
        if let Ok((_, mut cost)) = dropped {
            cost.trips = 0; // both ran together
            statistics += cost;
        }
        self.statistics.set(statistics);
        let found = ranked.into_iter().zip(records).map(|(ranked, record)| (with_text(ranked, &record), record));
        Ok((found.collect(), embed_ms))
    }
}

impl<E: TextEncoder> Retriever for HybridRetriever<E> {
    type Error = RetrieveError;

    async fn retrieve(
        &self,
        question: &Question,
        conversation: &Conversation,
        limit: usize,
        on_best: impl AsyncFnOnce(&str, &Reference),
    ) -> Result<Retrieval, RetrieveError> {
        let (started, recovered) = (now_ms(), self.encoder.recoveries());
        let query = standalone_query(question, conversation);
        // Asked this way round, a confidence that is no number counts as weak.
        let is_strong = |best: &Ranked| best.confidence >= self.calibration.weak_below;
        let on_first = async |ranked: Ranked, record: &Record| {
            if is_strong(&ranked) {
                on_best(&query, &reference(ranked, record.clone())).await;
            }
        };
        let (found, embed_ms) = self.find_first(&query, limit, on_first).await?;
        let weak = !found.first().is_some_and(|(best, _)| is_strong(best));
        let references = found.into_iter().map(|(ranked, record)| reference(ranked, record)).collect();
        let (retrieve_ms, recoveries) = (now_ms() - started - embed_ms, self.encoder.recoveries() - recovered);
        Ok(Retrieval { query, references, weak, embed_ms, retrieve_ms, recoveries })
    }

    fn score_sentences(&self, query: &str, sentences: &[&str]) -> Result<Vec<f32>, RetrieveError> {
        let query = self.encoder.embed_words(query)?;
        let cosine = |sentence: &&str| {
            let words = self.encoder.embed_words(sentence)?;
            Ok(query.iter().zip(&words).map(|(a, b)| a * b).sum())
        };
        sentences.iter().map(cosine).collect()
    }
}

fn reference(ranked: Ranked, record: Record) -> Reference {
    let Record { id, question, answer, department, related_diseases, source, url } = record;
    // A consultation that is only linked shows its question and where the answer can be read.
    let source = if url.is_empty() { source } else { url };
    Reference { id, question, answer, source, department, related_diseases, score: ranked.confidence }
}
