//! The retriever as `consult()` sees it.

use huatuo_compute::Device;
use huatuo_core::{Conversation, Question, Reference, Retrieval, Retriever};
use huatuo_fetch::clock::now_ms;
use huatuo_index::{Embed, Index, Record, SearchOutcome, SearchQuery, Statistics};

use crate::{Calibration, Encoder, Ranked, RetrieveError, rank, standalone_query};

/// Candidates taken from each of the two searches.
const CANDIDATES: usize = 100;

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
pub struct HybridRetriever<D: Device> {
    encoder: Encoder<D>,
    index: Index,
    calibration: Calibration,
    statistics: Statistics,
}

impl<D: Device> HybridRetriever<D> {
    /// Joins an encoder and an index that was built with it.
    pub fn new(encoder: Encoder<D>, index: Index, calibration: Calibration) -> Result<Self, RetrieveError> {
        let built_with = &index.manifest().encoder.sha256;
        if built_with != encoder.sha256() {
            let (index, encoder) = (built_with.clone(), encoder.sha256().to_owned());
            return Err(RetrieveError::EncoderMismatch { index, encoder });
        }
        Ok(Self { encoder, index, calibration, statistics: Statistics::default() })
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
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The vector of a query and the candidates of both searches, unranked.
    pub async fn search(&self, query: &str, candidates: usize) -> Result<(SearchOutcome, f64), RetrieveError> {
        let started = now_ms();
        let vector = self.encoder.embed(query)?;
        let embed_ms = now_ms() - started;
        let query = SearchQuery { vector: Some(&vector), text: query, top_k: candidates, candidates };
        Ok((self.index.search(&query).await?, embed_ms))
    }

    /// The best records of a query with their scores.
    pub async fn find(&mut self, query: &str, limit: usize) -> Result<(Vec<(Ranked, Record)>, f64), RetrieveError> {
        let (outcome, embed_ms) = self.search(query, CANDIDATES).await?;
        self.statistics = outcome.statistics;
        let mut ranked = rank(&outcome.hits, self.calibration.lexical_weight);
        ranked.truncate(limit);
        let rows: Vec<u32> = ranked.iter().map(|r| r.row).collect();
        let (records, statistics) = self.index.records(&rows).await?;
        self.statistics += statistics;
        Ok((ranked.into_iter().zip(records).collect(), embed_ms))
    }
}

impl<D: Device> Retriever for HybridRetriever<D> {
    type Error = RetrieveError;

    async fn retrieve(
        &mut self,
        question: &Question,
        conversation: &Conversation,
        limit: usize,
    ) -> Result<Retrieval, RetrieveError> {
        let started = now_ms();
        let query = standalone_query(question, conversation);
        let (found, embed_ms) = self.find(&query, limit).await?;
        // Asked this way round, a confidence that is no number counts as weak.
        let is_strong = |(best, _): &(Ranked, Record)| best.confidence >= self.calibration.weak_below;
        let weak = !found.first().is_some_and(is_strong);
        let references = found.into_iter().map(|(ranked, record)| reference(ranked, record)).collect();
        Ok(Retrieval { query, references, weak, embed_ms, retrieve_ms: now_ms() - started - embed_ms })
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
