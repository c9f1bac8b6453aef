//! BM25 over the postings of a question's terms.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with the idf that stays
//! positive for terms in more than half of all rows (as in Lucene).

use std::collections::HashSet;

use crate::document_length;
use crate::postings::Posting;
use crate::terms::term_keys;

/// How soon further occurrences of a term stop counting.
const K1: f32 = 1.2;
/// How much a long document is marked down.
const B: f32 = 0.75;

/// What BM25 needs to know of all documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Corpus {
    pub records: u32,
    /// Terms of all rows together, repeated ones repeated.
    pub total_terms: u64,
}

/// How well a row that has at least one term matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Match {
    pub row: u32,
    pub score: f32,
    /// Share of the question's idf that the row's terms make up, 0 to 1.
    pub coverage: f32,
}

impl Corpus {
    /// Inverse document frequency; a term that no row has gets the highest.
    pub fn idf(&self, documents: usize) -> f32 {
        let (all, with) = (f64::from(self.records), documents as f64);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln() as f32
    }

    /// How much a posting counts, before the idf of its term.
    pub fn weight(&self, posting: Posting) -> f32 {
        let average = self.total_terms as f32 / self.records.max(1) as f32;
        let relative = document_length::from_byte(posting.length_byte) as f32 / average.max(f32::MIN_POSITIVE);
        let frequency = posting.frequency as f32;
        frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * relative))
    }
}

/// A term of a question: how many rows have it, and the postings that were read, all or those that weigh most.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuestionTerm {
    pub documents: usize,
    pub postings: Vec<Posting>,
}

/// The terms of a question with how much each tells, for records whose postings were not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuestionTerms {
    /// Key and idf, keys ascending.
    terms: Vec<(u64, f32)>,
}

impl QuestionTerms {
    pub(crate) fn new(corpus: Corpus, keys: &[u64], terms: &[QuestionTerm]) -> Self {
        Self { terms: keys.iter().zip(terms).map(|(key, term)| (*key, corpus.idf(term.documents))).collect() }
    }

    /// Share of the idf of the question's terms that a text's terms make up, 0 to 1; 0 when the question has no term.
    pub fn coverage(&self, text: &str) -> f32 {
        let keys: HashSet<u64> = term_keys(text).into_iter().collect();
        let total: f32 = self.terms.iter().map(|(_, idf)| idf).sum();
        let covered: f32 = self.terms.iter().filter(|(key, _)| keys.contains(key)).map(|(_, idf)| idf).sum();
        if total > 0.0 { (covered / total).min(1.0) } else { 0.0 }
    }
}

/// Scores every row that has a posting of the question's terms, rows ascending.
///
/// Each distinct term comes once; a term that no row has comes with nothing and lowers the coverage.
pub(crate) fn score(corpus: Corpus, terms: &[QuestionTerm]) -> Vec<Match> {
    let total: f32 = terms.iter().map(|term| corpus.idf(term.documents)).sum();
    let mut parts = Vec::with_capacity(terms.iter().map(|term| term.postings.len()).sum());
    for term in terms {
        let idf = corpus.idf(term.documents);
        parts.extend(term.postings.iter().map(|posting| (posting.row, idf * corpus.weight(*posting), idf)));
    }
    // Stable, so that each row adds its terms up in the same order and scores are the same to the last bit.
    parts.sort_by_key(|part| part.0);
    let sum = |group: &[(u32, f32, f32)]| Match {
        row: group[0].0,
        score: group.iter().map(|part| part.1).sum(),
        coverage: (group.iter().map(|part| part.2).sum::<f32>() / total).min(1.0),
    };
    parts.chunk_by(|a, b| a.0 == b.0).map(sum).collect()
}
