//! One shard of the inverted index: keys in order, and for each the postings that weigh most. What a frequent term has beyond
//! those lies in tails, blocks of their own, so that no question has to read a million postings.

use crate::error::Malformed;
use crate::varint::Cursor;
#[cfg(feature = "write")]
use crate::varint::put;

/// Postings of a term in its shard; the rest is in tails.
pub(crate) const INLINE_POSTINGS: u32 = 128;
/// Postings of a tail.
pub(crate) const TAIL_POSTINGS: u32 = 1024;
/// Most tails of a term: what more rows have it by weighs next to nothing.
pub(crate) const MAX_TAILS: u32 = 64;
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

/// Where a term's tails lie: behind one another in one pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tails {
    pub pack: u32,
    pub offset: u64,
    /// Bytes of each block.
    pub lengths: Vec<u32>,
}

/// Tails of a term that so many rows have.
pub(crate) fn tail_count(documents: u32) -> u32 {
    documents.saturating_sub(INLINE_POSTINGS).div_ceil(TAIL_POSTINGS).min(MAX_TAILS)
}

/// Writes postings; rows ascend.
#[cfg(feature = "write")]
pub(crate) fn encode_postings(postings: &[Posting]) -> Vec<u8> {
    let (mut out, mut previous) = (Vec::with_capacity(4 * postings.len()), 0);
    for posting in postings {
        put(&mut out, u64::from(posting.row - previous));
        put(&mut out, u64::from(posting.frequency));
        out.push(posting.length_byte);
        previous = posting.row;
    }
    out
}

/// Writes a tail: the term's key, the tail's number among the term's, and its postings.
#[cfg(feature = "write")]
pub(crate) fn encode_tail(key: u64, number: u32, postings: &[Posting]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, key);
    put(&mut out, u64::from(number));
    put(&mut out, postings.len() as u64);
    out.extend_from_slice(&encode_postings(postings));
    out
}

/// A term of a shard that is written.
#[cfg(feature = "write")]
pub(crate) struct NewTerm {
    pub key: u64,
    pub documents: u32,
    /// Its first postings, encoded.
    pub inline: Vec<u8>,
    pub tails: Tails,
}

/// Writes a shard; keys ascend.
#[cfg(feature = "write")]
pub(crate) fn encode_shard(shard: u32, terms: &[NewTerm]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, u64::from(shard));
    put(&mut out, terms.len() as u64);
    let mut previous = 0;
    for term in terms {
        put(&mut out, term.key - previous);
        put(&mut out, u64::from(term.documents));
        put(&mut out, term.inline.len() as u64);
        if !term.tails.lengths.is_empty() {
            put(&mut out, u64::from(term.tails.pack));
            put(&mut out, term.tails.offset);
            term.tails.lengths.iter().for_each(|length| put(&mut out, u64::from(*length)));
        }
        previous = term.key;
    }
    terms.iter().for_each(|term| out.extend_from_slice(&term.inline));
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
#[derive(Clone, Debug)]
pub(crate) struct Term<'a> {
    pub key: u64,
    /// Rows that have it.
    pub documents: u32,
    pub tails: Tails,
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
            let (documents, bytes) = (cursor.varint_u32()?, cursor.varint()?);
            entries.push((key, documents, bytes, parse_tails(&mut cursor, tail_count(documents))?));
        }
        let mut terms = Vec::with_capacity(count);
        for (key, documents, bytes, tails) in entries {
            let bytes = cursor.take(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            terms.push(Term { key, documents, tails, bytes });
        }
        cursor.finish()?;
        Ok(Self { number, terms })
    }

    pub fn find(&self, key: u64) -> Option<&Term<'a>> {
        self.terms.binary_search_by_key(&key, |term| term.key).ok().map(|position| &self.terms[position])
    }
}

fn parse_tails(cursor: &mut Cursor<'_>, count: u32) -> Result<Tails, Malformed> {
    if count == 0 {
        return Ok(Tails::default());
    }
    let (pack, offset) = (cursor.varint_u32()?, cursor.varint()?);
    // Each length takes a byte at least, so no more is taken than the payload can hold.
    let lengths = (0..count).map(|_| cursor.varint_u32()).collect::<Result<_, _>>()?;
    Ok(Tails { pack, offset, lengths })
}

impl Term<'_> {
    /// Decodes the postings in the shard: rows ascend and are below `records`.
    pub fn postings(&self, records: u32) -> Result<Vec<Posting>, Malformed> {
        if self.documents == 0 {
            return Err(Malformed("a term's document frequency is zero"));
        }
        decode_postings(self.bytes, self.documents.min(INLINE_POSTINGS) as usize, records)
    }
}

/// Reads a tail of a term: its postings.
pub(crate) fn parse_tail(payload: &[u8], key: u64, number: u32, records: u32) -> Result<Vec<Posting>, Malformed> {
    match parse_any_tail(payload, records)? {
        (of, at, postings) if (of, at) == (key, number) => Ok(postings),
        _ => Err(Malformed("it is the tail of another term")),
    }
}

/// Reads a tail: the key of its term, its number among the term's tails, and its postings.
pub(crate) fn parse_any_tail(payload: &[u8], records: u32) -> Result<(u64, u32, Vec<Posting>), Malformed> {
    let mut cursor = Cursor::new(payload);
    let (key, number, count) = (cursor.varint()?, cursor.varint_u32()?, cursor.count(LEAST_POSTING_BYTES)?);
    Ok((key, number, decode_postings(cursor.rest(), count, records)?))
}

pub(crate) fn decode_postings(bytes: &[u8], count: usize, records: u32) -> Result<Vec<Posting>, Malformed> {
    if count.saturating_mul(LEAST_POSTING_BYTES) > bytes.len() {
        return Err(Malformed("a term's document frequency does not fit its postings"));
    }
    let mut cursor = Cursor::new(bytes);
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

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn term(key: u64, postings: &[Posting], tails: Tails) -> NewTerm {
        let inline = &postings[..postings.len().min(INLINE_POSTINGS as usize)];
        NewTerm { key, documents: postings.len() as u32, inline: encode_postings(inline), tails }
    }

    #[test]
    fn postings_come_back_by_key() {
        let one =
            [Posting { row: 0, frequency: 2, length_byte: 9 }, Posting { row: 700, frequency: 1, length_byte: 3 }];
        let two = [Posting { row: 5, frequency: 300, length_byte: 255 }];
        let payload = encode_shard(3, &[term(0, &one, Tails::default()), term(u64::MAX, &two, Tails::default())]);
        let shard = Shard::parse(&payload).unwrap();
        assert_eq!(shard.number, 3);
        assert_eq!(shard.find(0).unwrap().postings(701).unwrap(), one);
        assert_eq!(shard.find(u64::MAX).unwrap().postings(6).unwrap(), two);
        assert!(shard.find(1).is_none());
    }

    #[test]
    fn a_frequent_term_says_where_its_tails_are() {
        let postings: Vec<Posting> = (0..1200).map(|row| Posting { row, frequency: 1, length_byte: 4 }).collect();
        let tails = Tails { pack: 2, offset: 1 << 40, lengths: vec![4000, 300] };
        let payload = encode_shard(0, &[term(9, &postings, tails.clone()), term(10, &postings[..1], Tails::default())]);
        let shard = Shard::parse(&payload).unwrap();
        assert_eq!((shard.terms[0].documents, &shard.terms[0].tails), (1200, &tails));
        assert_eq!(shard.terms[0].postings(1200).unwrap(), postings[..128]);
        assert_eq!(shard.terms[1].postings(1200).unwrap(), postings[..1]);
        let tail = encode_tail(9, 1, &postings[1152..]);
        assert_eq!(parse_tail(&tail, 9, 1, 1200).unwrap(), postings[1152..]);
        assert!(parse_tail(&tail, 9, 0, 1200).is_err() && parse_tail(&tail, 8, 1, 1200).is_err());
    }

    #[test]
    fn a_row_beyond_the_corpus_is_refused() {
        let posting = [Posting { row: 9, frequency: 1, length_byte: 1 }];
        let payload = encode_shard(0, &[term(1, &posting, Tails::default())]);
        assert!(Shard::parse(&payload).unwrap().find(1).unwrap().postings(9).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_shard_or_an_error(payload: Vec<u8>) {
            if let Ok(shard) = Shard::parse(&payload) {
                shard.terms.iter().for_each(|term| drop(term.postings(1000)));
            }
            let _ = parse_tail(&payload, 1, 0, 1000);
        }
    }
}
