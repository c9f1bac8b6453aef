//! A cell: what is read of one row once its code left it open. Its vector, the rows nearest to it, and where its text lies.
//!
//! Cells have one size, so a row's place follows from its number; each has its own checksum, so each is read alone.

use huatuo_fetch::xxh3_64;

use crate::error::Malformed;
use crate::varint::Cursor;
use crate::vectors::{Row, row_bytes};

/// Bytes of a neighbour's row.
const NEIGHBOUR_BYTES: usize = 4;
/// Bytes of the text's place, of the length byte, and one that is reserved.
const TEXT_BYTES: usize = 12;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 8;
/// In the place of a neighbour that is not there.
const NOBODY: u32 = u32::MAX;
/// Most neighbours of a row.
pub(crate) const MAX_NEIGHBOURS: u32 = 256;

/// Bytes of a cell.
pub(crate) fn cell_bytes(dimensions: usize, neighbours: u32) -> usize {
    row_bytes(dimensions) + neighbours as usize * NEIGHBOUR_BYTES + TEXT_BYTES + CHECKSUM_BYTES
}

/// Where a block of texts lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextPlace {
    pub pack: u16,
    pub offset: u32,
    pub length: u32,
}

/// A decoded cell.
#[derive(Debug)]
pub(crate) struct Cell<'a> {
    pub vector: Row<'a>,
    neighbours: &'a [u8],
    pub text: TextPlace,
    /// The row's length in terms, as `document_length` codes it.
    pub length_byte: u8,
}

/// Appends a cell.
#[cfg(feature = "write")]
pub(crate) fn put_cell(
    out: &mut Vec<u8>,
    row: u32,
    vector: &[u8],
    neighbours: &[u32],
    text: TextPlace,
    length_byte: u8,
) {
    let start = out.len();
    out.extend_from_slice(vector);
    neighbours.iter().for_each(|neighbour| out.extend_from_slice(&neighbour.to_le_bytes()));
    out.extend_from_slice(&text.pack.to_le_bytes());
    out.extend_from_slice(&text.offset.to_le_bytes());
    out.extend_from_slice(&text.length.to_le_bytes());
    out.extend_from_slice(&[length_byte, 0]);
    let checksum = checksum(row, &out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The neighbours of a row as a cell has them: as many as there are, then nobody.
#[cfg(feature = "write")]
pub(crate) fn fill_neighbours(mut rows: Vec<u32>, count: u32) -> Vec<u32> {
    rows.resize(count as usize, NOBODY);
    rows
}

/// Of the row and the cell's bytes: a cell that stands in another's place is found too.
fn checksum(row: u32, bytes: &[u8]) -> u64 {
    xxh3_64(&[&row.to_le_bytes(), bytes].concat())
}

/// Whether a cell is that of a row, as it was written.
pub(crate) fn check(row: u32, cell: &[u8]) -> Result<(), (u64, u64)> {
    let Some((bytes, stored)) = cell.split_last_chunk::<CHECKSUM_BYTES>() else { return Err((0, 0)) };
    let (expected, found) = (u64::from_le_bytes(*stored), checksum(row, bytes));
    if expected == found { Ok(()) } else { Err((expected, found)) }
}

/// Makes the checksum of a changed cell right again, for tests that forge.
#[cfg(all(test, feature = "write"))]
pub(crate) fn renew_checksum(row: u32, cell: &mut [u8]) {
    let (bytes, stored) = cell.split_at_mut(cell.len() - CHECKSUM_BYTES);
    stored.copy_from_slice(&checksum(row, bytes).to_le_bytes());
}

impl<'a> Cell<'a> {
    /// Reads a cell that was checked.
    pub fn parse(cell: &'a [u8], dimensions: usize) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(cell);
        let vector = Row::parse(cursor.take(row_bytes(dimensions))?)?;
        let rest = cell.len() - row_bytes(dimensions);
        let neighbours = rest.checked_sub(TEXT_BYTES + CHECKSUM_BYTES).ok_or(Malformed("a cell is too small"))?;
        let neighbours = cursor.take(neighbours)?;
        let &[p0, p1, o0, o1, o2, o3, l0, l1, l2, l3, length_byte, reserved] = cursor.take(TEXT_BYTES)? else {
            return Err(Malformed("a cell is too small"));
        };
        if reserved != 0 {
            return Err(Malformed("a reserved byte of a cell is not zero"));
        }
        let text = TextPlace {
            pack: u16::from_le_bytes([p0, p1]),
            offset: u32::from_le_bytes([o0, o1, o2, o3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
        };
        Ok(Self { vector, neighbours, text, length_byte })
    }

    /// The rows nearest to this one, nearest first.
    pub fn neighbours(&self) -> impl Iterator<Item = u32> + '_ {
        let rows = self
            .neighbours
            .chunks_exact(NEIGHBOUR_BYTES)
            .map(|row| u32::from_le_bytes([row[0], row[1], row[2], row[3]]));
        rows.take_while(|row| *row != NOBODY)
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use crate::vectors::put_row;
    use proptest::prelude::*;

    const TEXT: TextPlace = TextPlace { pack: 3, offset: 1 << 30, length: 999 };

    fn cell(row: u32) -> Vec<u8> {
        let (mut vector, mut out) = (Vec::new(), Vec::new());
        put_row(&mut vector, &[0.6, 0.8], 1.0);
        put_cell(&mut out, row, &vector, &fill_neighbours(vec![9, 4], 3), TEXT, 17);
        out
    }

    #[test]
    fn a_cell_comes_back() {
        let bytes = cell(7);
        assert_eq!((bytes.len(), check(7, &bytes)), (cell_bytes(2, 3), Ok(())));
        let cell = Cell::parse(&bytes, 2).unwrap();
        assert_eq!((cell.text, cell.length_byte), (TEXT, 17));
        assert_eq!(cell.neighbours().collect::<Vec<_>>(), [9, 4]);
        assert!((cell.vector.product(&[0.6, 0.8]) - 1.0).abs() < 1e-2);
    }

    #[test]
    fn another_rows_cell_and_a_changed_one_are_found() {
        assert!(check(8, &cell(7)).is_err());
        for byte in 0..cell(7).len() {
            let mut changed = cell(7);
            changed[byte] ^= 1;
            assert!(check(7, &changed).is_err());
        }
        assert!(check(7, &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_cell_or_an_error(bytes: Vec<u8>) {
            let _ = Cell::parse(&bytes, 2).map(|cell| cell.neighbours().count());
        }
    }
}
