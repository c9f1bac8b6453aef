//! A LISTS block: rows that lie near one centroid, with a one-bit code each.

use crate::error::Malformed;
use crate::rabitq::{Estimate, QueryTable};
use crate::varint::Cursor;
use crate::vectors::{Row, row_bytes};

/// Most entries of a list: a reader takes memory for no more.
pub(crate) const MAX_LIST_ENTRIES: u32 = 4096;

/// A list: the rows that belong to it, which follow one another, and rows of other lists that lie near its border.
#[derive(Debug)]
pub(crate) struct List<'a> {
    pub first_row: u32,
    /// Rows that belong to it.
    pub own: u32,
    centroid: Row<'a>,
    codes: &'a [u8],
    guests: Vec<u32>,
}

/// What a list is made of.
#[cfg(feature = "write")]
pub(crate) struct NewList<'a> {
    pub first_row: u32,
    pub own: u32,
    /// A row, as [`crate::vectors::put_row`] makes it.
    pub centroid: &'a [u8],
    /// Codes of its own rows, then of its guests.
    pub codes: &'a [u8],
    /// Rows ascending.
    pub guests: &'a [u32],
}

#[cfg(feature = "write")]
impl NewList<'_> {
    pub fn encode(&self) -> Vec<u8> {
        use crate::varint::put;
        let mut out = Vec::with_capacity(self.centroid.len() + self.codes.len() + 4 * self.guests.len() + 12);
        put(&mut out, u64::from(self.first_row));
        put(&mut out, u64::from(self.own));
        put(&mut out, self.guests.len() as u64);
        out.extend_from_slice(self.centroid);
        out.extend_from_slice(self.codes);
        let mut previous = 0;
        for &guest in self.guests {
            put(&mut out, u64::from(guest - previous));
            previous = guest;
        }
        out
    }
}

impl<'a> List<'a> {
    /// Reads a list of an index with `records` records and codes of `code_bytes`.
    pub fn parse(payload: &'a [u8], dimensions: usize, code_bytes: usize, records: u32) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (first_row, own, guests) = (cursor.varint_u32()?, cursor.varint_u32()?, cursor.varint_u32()?);
        let entries = own.checked_add(guests).filter(|entries| *entries <= MAX_LIST_ENTRIES);
        let entries = entries.ok_or(Malformed("it has more than 4096 entries"))? as usize;
        if first_row.checked_add(own).is_none_or(|end| end > records) {
            return Err(Malformed("its rows are beyond the last record"));
        }
        let centroid = Row::parse(cursor.take(row_bytes(dimensions))?)?;
        let codes = cursor.take(entries * code_bytes)?;
        let (mut rows, mut row) = (Vec::with_capacity(guests as usize), 0u32);
        for position in 0..guests {
            let delta = cursor.varint_u32()?;
            if position > 0 && delta == 0 {
                return Err(Malformed("a guest appears twice"));
            }
            row =
                row.checked_add(delta).filter(|row| *row < records).ok_or(Malformed("a guest's row does not exist"))?;
            rows.push(row);
        }
        cursor.finish()?;
        Ok(Self { first_row, own, centroid, codes, guests: rows })
    }

    /// Appends each row with what its code says of it.
    pub fn scan(&self, query: &[f32], table: &QueryTable, out: &mut Vec<(u32, Estimate)>) -> Result<(), Malformed> {
        let entries = self.own as usize + self.guests.len();
        if entries == 0 {
            return Ok(());
        }
        let at_centre = self.centroid.product(query);
        let distance = (1.0 + self.centroid.square() - 2.0 * at_centre).max(0.0).sqrt();
        let rows = (self.first_row..self.first_row + self.own).chain(self.guests.iter().copied());
        for (row, code) in rows.zip(self.codes.chunks_exact(self.codes.len() / entries)) {
            out.push((row, table.estimate(code, at_centre, distance)?));
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use crate::rabitq::{Rotation, put_code};
    use crate::vectors::{normalise, put_row};
    use proptest::prelude::*;

    #[test]
    fn own_rows_and_guests_come_back_with_estimates() {
        let rotation = Rotation::new(64, 7);
        let vectors: Vec<Vec<f32>> = (0..4)
            .map(|row| normalise(&(0..64).map(|n| ((row * 7 + n) as f32).sin()).collect::<Vec<_>>()).unwrap())
            .collect();
        let (mut centroid, mut codes) = (Vec::new(), Vec::new());
        put_row(&mut centroid, &vectors[0], 0.8);
        let centre = Row::parse(&centroid).unwrap().numbers();
        for vector in &vectors {
            put_code(&mut codes, (vector, &rotation.rotate(vector)), (&centre, &rotation.rotate(&centre)));
        }
        let new = NewList { first_row: 5, own: 2, centroid: &centroid, codes: &codes, guests: &[0, 9] };
        let payload = new.encode();
        let list = List::parse(&payload, 64, rotation.code_bytes(), 10).unwrap();
        let (query, mut found) = (&vectors[3], Vec::new());
        list.scan(query, &QueryTable::new(&rotation, query), &mut found).unwrap();
        assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [5, 6, 0, 9]);
        assert!((found[3].1.cosine - 1.0).abs() < found[3].1.bound.max(0.2));
        assert!(List::parse(&payload, 64, rotation.code_bytes(), 9).is_err(), "a guest beyond the last record");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_list_or_an_error(payload: Vec<u8>) {
            let rotation = Rotation::new(3, 7);
            if let Ok(list) = List::parse(&payload, 3, rotation.code_bytes(), 100) {
                let _ = list.scan(&[0.5; 3], &QueryTable::new(&rotation, &[0.5; 3]), &mut Vec::new());
            }
        }
    }
}
