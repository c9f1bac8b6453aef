//! Merging of a text's characters into SentencePiece's pieces.
//!
//! The `tokenizers` crate ranks merges one behind the other. Here the score of the piece that a merge makes is its rank,
//! and equal scores are merged from left to right: vocabularies that were extended later (Chinese pieces behind Llama's)
//! give thousands of pieces the same score. On such a one, ranked merges gave sentencepiece's tokens for 9,623 of 10,000
//! texts, these for all.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::gguf_tokenizer::Kind;
use crate::sentence_piece::SentencePiece;

/// A part of the text; empty once it was merged into the one before.
#[derive(Debug)]
pub(crate) struct Symbol {
    /// First byte in the text.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
    /// The symbol before.
    pub previous: Option<usize>,
    /// The symbol behind, at the end the number of symbols.
    pub next: usize,
    /// Whether it is never merged.
    pub frozen: bool,
}

/// Two neighbours that make a piece.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    bytes: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// Merging the symbols of a text.
pub(crate) struct Merging<'a> {
    vocabulary: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    /// Where pieces that may be merged through, but not written, fall apart again: bytes of the left part.
    splits: HashMap<u32, usize>,
}

impl<'a> Merging<'a> {
    /// The symbols of a text, not merged yet.
    pub fn new(vocabulary: &'a SentencePiece, text: &'a str, symbols: Vec<Symbol>) -> Self {
        Self { vocabulary, text, symbols, splits: HashMap::new() }
    }

    /// Merges until no neighbours make a piece, the best score first; gives the parts of the text.
    pub fn run(mut self) -> Vec<&'a str> {
        let mut queue = BinaryHeap::new();
        for right in 1..self.symbols.len() {
            queue.extend(self.candidate(right - 1, right));
        }
        while let Some(Candidate { left, right, bytes, .. }) = queue.pop() {
            let (l, r) = (&self.symbols[left], &self.symbols[right]);
            if l.start == l.end || r.start == r.end || r.end - l.start != bytes {
                continue; // one of them was merged otherwise since
            }
            let (end, next) = (r.end, r.next);
            self.symbols[right].start = end;
            (self.symbols[left].end, self.symbols[left].next) = (end, next);
            if next < self.symbols.len() {
                self.symbols[next].previous = Some(left);
                queue.extend(self.candidate(left, next));
            }
            if let Some(previous) = self.symbols[left].previous {
                queue.extend(self.candidate(previous, left));
            }
        }
        self.parts()
    }

    fn candidate(&mut self, left: usize, right: usize) -> Option<Candidate> {
        let (l, r) = (&self.symbols[left], &self.symbols[right]);
        if l.frozen || r.frozen {
            return None;
        }
        let (id, kind, score) = self.vocabulary.piece(&self.text[l.start..r.end])?;
        if kind == Kind::Unused {
            self.splits.insert(id, l.end - l.start);
        }
        Some(Candidate { score, left, right, bytes: r.end - l.start })
    }

    fn parts(&self) -> Vec<&'a str> {
        let (mut parts, mut open) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at) {
            open.push(&self.text[symbol.start..symbol.end]);
            at = symbol.next;
            while let Some(part) = open.pop() {
                let split = self.vocabulary.piece(part).and_then(|(id, ..)| self.splits.get(&id));
                match split.and_then(|split| part.split_at_checked(*split)) {
                    Some((left, right)) => open.extend([right, left]),
                    None => parts.push(part),
                }
            }
        }
        parts
    }
}
