//! Rows on their way through a build: vector, record and terms of each.

use super::work::damaged;
use crate::IndexError;
use crate::varint::{Cursor, put};

/// Some rows. Bytes of all rows lie behind one another, `*_ends` say where each row's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Position of each in the input.
    pub ids: Vec<u32>,
    /// As `vectors::put_row` makes them.
    pub vectors: Vec<u8>,
    records: Vec<u8>,
    record_ends: Vec<usize>,
    terms: Vec<u8>,
    term_ends: Vec<usize>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.vectors.len() + self.records.len() + self.terms.len()
    }

    /// Appends a row: its record as bytes, and its terms as [`encode_terms`] makes them.
    pub fn push(&mut self, id: u32, vector: &[u8], record: &[u8], terms: &[u8]) {
        self.ids.push(id);
        self.vectors.extend_from_slice(vector);
        self.records.extend_from_slice(record);
        self.record_ends.push(self.records.len());
        self.terms.extend_from_slice(terms);
        self.term_ends.push(self.terms.len());
    }

    pub fn record(&self, position: usize) -> &[u8] {
        &self.records[before(&self.record_ends, position)..self.record_ends[position]]
    }

    pub fn terms(&self, position: usize) -> &[u8] {
        &self.terms[before(&self.term_ends, position)..self.term_ends[position]]
    }

    pub fn vector(&self, position: usize) -> &[u8] {
        let bytes = self.vectors.len() / self.len();
        &self.vectors[position * bytes..(position + 1) * bytes]
    }

    /// Appends all rows of another.
    pub fn append(&mut self, other: &Self) {
        for position in 0..other.len() {
            self.push(other.ids[position], other.vector(position), other.record(position), other.terms(position));
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes() + 12 * self.len() + 16);
        put(&mut out, self.len() as u64);
        put(&mut out, self.vectors.len() as u64);
        self.ids.iter().for_each(|id| put(&mut out, u64::from(*id)));
        for position in 0..self.len() {
            put(&mut out, self.record(position).len() as u64);
            put(&mut out, self.terms(position).len() as u64);
        }
        out.extend_from_slice(&self.vectors);
        out.extend_from_slice(&self.records);
        out.extend_from_slice(&self.terms);
        out
    }

    /// Reads what [`Rows::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let read = || {
            let mut cursor = Cursor::new(bytes);
            let (count, vectors) = (cursor.count(1)?, cursor.count(1)?);
            let mut rows =
                Self { ids: (0..count).map(|_| cursor.varint_u32()).collect::<Result<_, _>>()?, ..Self::default() };
            let (mut record_end, mut term_end) = (0, 0);
            for _ in 0..count {
                record_end += cursor.count(1)?;
                term_end += cursor.count(1)?;
                rows.record_ends.push(record_end);
                rows.term_ends.push(term_end);
            }
            rows.vectors = cursor.take(vectors)?.to_vec();
            rows.records = cursor.take(record_end)?.to_vec();
            rows.terms = cursor.take(term_end)?.to_vec();
            cursor.finish()?;
            Ok(rows)
        };
        read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
    }
}

fn before(ends: &[usize], position: usize) -> usize {
    position.checked_sub(1).map_or(0, |before| ends[before])
}

/// A text's terms: how many, repeated ones repeated, then each distinct key with how often it stands there.
pub(crate) fn encode_terms(mut keys: Vec<u64>) -> Vec<u8> {
    keys.sort_unstable();
    encode_counted_terms(keys.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect())
}

/// The same from distinct keys with their frequencies.
pub(crate) fn encode_counted_terms(mut terms: Vec<(u64, u32)>) -> Vec<u8> {
    terms.sort_unstable();
    let mut out = Vec::new();
    put(&mut out, terms.iter().map(|(_, frequency)| u64::from(*frequency)).sum());
    let mut previous = 0;
    for (key, frequency) in terms {
        put(&mut out, key - previous);
        put(&mut out, u64::from(frequency));
        previous = key;
    }
    out
}

/// Reads them: number of terms, and keys with their frequencies.
pub(crate) fn decode_terms(bytes: &[u8]) -> Result<(u32, Vec<(u64, u32)>), IndexError> {
    let read = || {
        let mut cursor = Cursor::new(bytes);
        let total = cursor.varint_u32()?;
        let (mut keys, mut key, mut counted) = (Vec::new(), 0u64, 0u32);
        while counted < total {
            key = key.wrapping_add(cursor.varint()?);
            let frequency = cursor.varint_u32()?;
            counted = counted.saturating_add(frequency.max(1));
            keys.push((key, frequency));
        }
        cursor.finish()?;
        Ok((total, keys))
    };
    read().map_err(|rule: crate::error::Malformed| damaged(rule.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_terms_come_back() {
        let mut rows = Rows::default();
        rows.push(7, &[1, 2], b"record", &encode_terms(vec![9, 3, 9]));
        rows.push(8, &[3, 4], b"", &encode_terms(vec![]));
        let again = Rows::decode(&rows.encode()).unwrap();
        assert_eq!(again, rows);
        assert_eq!((again.record(0), again.vector(1)), (&b"record"[..], &[3, 4][..]));
        assert_eq!(decode_terms(again.terms(0)).unwrap(), (3, vec![(3, 1), (9, 2)]));
        assert_eq!(decode_terms(again.terms(1)).unwrap(), (0, vec![]));
        assert!(Rows::decode(&rows.encode()[1..]).is_err());
    }
}
