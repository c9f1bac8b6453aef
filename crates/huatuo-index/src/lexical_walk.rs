//! The walk to the records that share a question's words: the shards of its terms, then what frequent terms have beyond them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bm25::{Corpus, Match, QuestionTerm, QuestionTerms, score};
use crate::postings::{Posting, Shard, Tails, parse_tail};
use crate::segment::{Place, Segment};
use crate::terms::{shard_of, term_keys};
use crate::walk::Walk;
use crate::{Effort, IndexError, Kind};

/// The walk over all segments, whose statistics count together.
pub(crate) struct LexicalWalk<'a> {
    segments: &'a [Segment],
    corpus: Corpus,
    /// The question's distinct terms, keys ascending.
    keys: Vec<u64>,
    terms: Vec<QuestionTerm>,
    posting_bytes: usize,
    step: Step,
    asked: Vec<Place>,
    /// Which tail of which term each place of the second trip is.
    tails: Vec<(usize, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Shards,
    Tails,
    End,
}

/// A term's tails in one segment.
struct TermTails {
    term: usize,
    segment: u16,
    tails: Tails,
}

impl<'a> LexicalWalk<'a> {
    /// Begins a walk for a question's text.
    pub fn new(segments: &'a [Segment], text: &str, effort: Effort) -> Self {
        let mut keys = term_keys(text);
        keys.sort_unstable();
        keys.dedup();
        let corpus = Corpus {
            records: segments.iter().map(|segment| segment.root.records).sum(),
            total_terms: segments.iter().map(|segment| segment.root.total_terms).sum(),
        };
        let shards_of = |segment: &'a Segment| {
            let mut shards: Vec<u32> =
                keys.iter().map(|key| shard_of(*key, segment.root.shards.len() as u32)).collect();
            shards.sort_unstable();
            shards.dedup();
            shards.into_iter().filter_map(|shard| segment.shard(shard))
        };
        let asked: Vec<Place> = segments.iter().flat_map(shards_of).collect();
        let terms = vec![QuestionTerm::default(); keys.len()];
        let (posting_bytes, tails) = (effort.posting_bytes, Vec::new());
        Self { segments, corpus, keys, terms, posting_bytes, step: Step::Shards, asked, tails }
    }

    /// Whether all it reads is here.
    pub fn is_done(&self) -> bool {
        self.asked.is_empty()
    }

    /// All rows with a term of the question, rows of all segments ascending; nothing when the question has no term.
    pub fn matches(&self) -> Option<Vec<Match>> {
        let is_live = |found: &Match| {
            let after = self.segments.partition_point(|segment| segment.first_row <= found.row);
            self.segments[..after]
                .last()
                .is_some_and(|segment| !segment.deleted.contains(&(found.row - segment.first_row)))
        };
        (!self.keys.is_empty()).then(|| score(self.corpus, &self.terms).into_iter().filter(is_live).collect())
    }

    /// What the question's terms tell; complete when its shards have been taken.
    pub fn question_terms(&self) -> QuestionTerms {
        QuestionTerms::new(self.corpus, &self.keys, &self.terms)
    }

    fn take_shards(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        let mut beyond = Vec::new();
        for (place, payload) in self.asked.iter().zip(payloads) {
            let segment = &self.segments[usize::from(place.segment)];
            let wrong = |rule| segment.at(place).corrupt(rule);
            let shard = Shard::parse(payload).map_err(wrong)?;
            if shard.number != place.number {
                return Err(wrong(crate::error::Malformed("it is another shard than the root says")));
            }
            for (number, key) in self.keys.iter().enumerate() {
                let Some(term) = shard.find(*key) else { continue };
                self.terms[number].documents += term.documents as usize;
                let postings = term.postings(segment.entry.records).map_err(wrong)?;
                self.terms[number].postings.extend(global(segment, postings));
                beyond.push(TermTails { term: number, segment: place.segment, tails: term.tails.clone() });
            }
        }
        self.asked.clear();
        self.choose_tails(beyond)?;
        self.step = Step::Tails;
        Ok(())
    }

    /// Rarest terms first, as far as the bytes go: they tell most, and need fewest.
    fn choose_tails(&mut self, mut beyond: Vec<TermTails>) -> Result<(), IndexError> {
        beyond.sort_by_key(|of| (self.terms[of.term].documents, of.term, of.segment));
        let mut left = self.posting_bytes;
        for of in beyond {
            let (segment, mut offset) = (&self.segments[usize::from(of.segment)], of.tails.offset);
            for (length, number) in of.tails.lengths.iter().zip(0..) {
                let Some(rest) = left.checked_sub(*length as usize) else { return Ok(()) };
                left = rest;
                let place = segment.told(Kind::POSTINGS, of.tails.pack, offset, *length);
                let shard = shard_of(self.keys[of.term], segment.root.shards.len() as u32);
                let wrong = |rule| {
                    segment.shard(shard).map_or_else(
                        || IndexError::Manifest { detail: String::new() },
                        |at| segment.at(&at).corrupt(rule),
                    )
                };
                self.asked.push(place.map_err(wrong)?);
                self.tails.push((of.term, number));
                offset += u64::from(*length);
            }
        }
        Ok(())
    }

    fn take_tails(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        let mut seen: HashMap<usize, Vec<Posting>> = HashMap::new();
        for ((place, payload), (term, number)) in self.asked.iter().zip(payloads).zip(&self.tails) {
            let segment = &self.segments[usize::from(place.segment)];
            let postings = parse_tail(payload, self.keys[*term], *number, segment.entry.records);
            let postings = postings.map_err(|rule| segment.at(place).corrupt(rule))?;
            seen.entry(*term).or_default().extend(global(segment, postings));
        }
        for (term, postings) in seen {
            self.terms[term].postings.extend(postings);
        }
        self.asked.clear();
        self.step = Step::End;
        Ok(())
    }
}

/// Postings with rows of the whole index.
fn global(segment: &Segment, postings: Vec<Posting>) -> impl Iterator<Item = Posting> {
    let first = segment.first_row;
    postings.into_iter().map(move |posting| Posting { row: first + posting.row, ..posting })
}

impl Walk for LexicalWalk<'_> {
    fn wants(&mut self) -> Vec<Place> {
        self.asked.clone()
    }

    fn take(&mut self, payloads: &[Arc<Vec<u8>>]) -> Result<(), IndexError> {
        match self.step {
            Step::Shards => self.take_shards(payloads),
            Step::Tails => self.take_tails(payloads),
            Step::End => Ok(()),
        }
    }
}
