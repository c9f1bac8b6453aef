//! One shard of the inverted index: keys in order, and for each the rows that have the term.

use crate::error::Malformed;
use crate::varint::Cursor;
#[cfg(feature = "write")]
use crate::varint::put;

/// Least bytes of a posting: row, term frequency and length byte.
const LEAST_POSTING_BYTES: usize = 3;
/// Least bytes of a key's entry: key, document frequency and length of its postings.
const LEAST_ENTRY_BYTES: usize = 3;

/// A row that has a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub row: u32,
    /// How often the row has the term, at least once.
    pub frequency: u32,
    /// The row's length, as `document_length` codes it.
    pub length_byte: u8,
}

/// The postings of one term while an index is built.
#[cfg(feature = "write")]
#[derive(Clone, Debug, Default)]
pub(crate) struct PostingList {
    pub bytes: Vec<u8>,
    pub documents: u32,
    last_row: u32,
}

#[cfg(feature = "write")]
impl PostingList {
    /// Appends a posting whose row is above all before it.
    pub fn push(&mut self, posting: Posting) {
        put(&mut self.bytes, u64::from(posting.row - self.last_row));
        put(&mut self.bytes, u64::from(posting.frequency));
        self.bytes.push(posting.length_byte);
        self.last_row = posting.row;
        self.documents += 1;
    }
}

/// Writes a shard; keys ascend.
#[cfg(feature = "write")]
pub(crate) fn encode_shard(shard: u32, lists: &[(u64, &PostingList)]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, u64::from(shard));
    put(&mut out, lists.len() as u64);
    let mut previous = 0;
    for (key, list) in lists {
        put(&mut out, key - previous);
        put(&mut out, u64::from(list.documents));
        put(&mut out, list.bytes.len() as u64);
        previous = *key;
    }
    lists.iter().for_each(|(_, list)| out.extend_from_slice(&list.bytes));
    out
}

/// A decoded shard; the postings themselves stay bytes until they are asked for.
#[derive(Debug)]
pub(crate) struct Shard<'a> {
    pub number: u32,
    /// Keys ascending.
    pub terms: Vec<Term<'a>>,
}

/// A term of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term<'a> {
    pub key: u64,
    documents: u32,
    bytes: &'a [u8],
}

impl<'a> Shard<'a> {
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let number = cursor.varint_u32()?;
        let count = cursor.count(LEAST_ENTRY_BYTES)?;
        let (mut entries, mut key) = (Vec::with_capacity(count), 0u64);
        for position in 0..count {
            let delta = cursor.varint()?;
            if position > 0 && delta == 0 {
                return Err(Malformed("a term appears twice"));
            }
            key = key.checked_add(delta).ok_or(Malformed("a term's key has more than 64 bits"))?;
            entries.push((key, cursor.varint_u32()?, cursor.varint()?));
        }
        let mut terms = Vec::with_capacity(count);
        for (key, documents, bytes) in entries {
            let bytes = cursor.take(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            terms.push(Term { key, documents, bytes });
        }
        cursor.finish()?;
        Ok(Self { number, terms })
    }

    pub fn find(&self, key: u64) -> Option<&Term<'a>> {
        self.terms.binary_search_by_key(&key, |term| term.key).ok().map(|position| &self.terms[position])
    }
}

impl Term<'_> {
    /// Decodes the postings: rows ascend and are below `records`.
    pub fn postings(&self, records: u32) -> Result<Vec<Posting>, Malformed> {
        let count = self.documents as usize;
        if count == 0 || count.saturating_mul(LEAST_POSTING_BYTES) > self.bytes.len() {
            return Err(Malformed("a term's document frequency does not fit its postings"));
        }
        let mut cursor = Cursor::new(self.bytes);
        let (mut postings, mut row) = (Vec::with_capacity(count), 0u32);
        for position in 0..count {
            let delta = cursor.varint_u32()?;
            if position > 0 && delta == 0 {
                return Err(Malformed("a row appears twice in a term's postings"));
            }
            let next = row.checked_add(delta).filter(|row| *row < records);
            row = next.ok_or(Malformed("a posting's row is beyond the last record"))?;
            let (frequency, length_byte) = (cursor.varint_u32()?, cursor.byte()?);
            if frequency == 0 {
                return Err(Malformed("a posting's term frequency is zero"));
            }
            postings.push(Posting { row, frequency, length_byte });
        }
        cursor.finish()?;
        Ok(postings)
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(postings: &[Posting]) -> PostingList {
        let mut list = PostingList::default();
        postings.iter().for_each(|posting| list.push(*posting));
        list
    }

    #[test]
    fn postings_come_back_by_key() {
        let one =
            [Posting { row: 0, frequency: 2, length_byte: 9 }, Posting { row: 700, frequency: 1, length_byte: 3 }];
        let two = [Posting { row: 5, frequency: 300, length_byte: 255 }];
        let payload = encode_shard(3, &[(0, &list(&one)), (u64::MAX, &list(&two))]);
        let shard = Shard::parse(&payload).unwrap();
        assert_eq!(shard.number, 3);
        assert_eq!(shard.find(0).unwrap().postings(701).unwrap(), one);
        assert_eq!(shard.find(u64::MAX).unwrap().postings(6).unwrap(), two);
        assert!(shard.find(1).is_none());
    }

    #[test]
    fn a_row_beyond_the_corpus_is_refused() {
        let payload = encode_shard(0, &[(1, &list(&[Posting { row: 9, frequency: 1, length_byte: 1 }]))]);
        assert!(Shard::parse(&payload).unwrap().find(1).unwrap().postings(9).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_shard_or_an_error(payload: Vec<u8>) {
            if let Ok(shard) = Shard::parse(&payload) {
                shard.terms.iter().for_each(|term| drop(term.postings(1000)));
            }
        }
    }
}
