//! A TOMBSTONES block: rows of a segment that were deleted.

use std::collections::HashSet;

use crate::error::Malformed;
use crate::varint::Cursor;

/// Writes deleted rows; they ascend.
#[cfg(feature = "write")]
pub(crate) fn encode(rows: &[u32]) -> Vec<u8> {
    use crate::varint::put;
    let (mut out, mut previous) = (Vec::new(), 0);
    put(&mut out, rows.len() as u64);
    for &row in rows {
        put(&mut out, u64::from(row - previous));
        previous = row;
    }
    out
}

/// Reads them.
pub(crate) fn parse(payload: &[u8]) -> Result<HashSet<u32>, Malformed> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count(1)?;
    let (mut rows, mut row) = (HashSet::with_capacity(count), 0u32);
    for position in 0..count {
        let delta = cursor.varint_u32()?;
        if position > 0 && delta == 0 {
            return Err(Malformed("a row is deleted twice"));
        }
        row = row.checked_add(delta).ok_or(Malformed("a deleted row has more than 32 bits"))?;
        rows.insert(row);
    }
    cursor.finish()?;
    Ok(rows)
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deleted_rows_come_back() {
        assert_eq!(parse(&encode(&[0, 7, 9])), Ok(HashSet::from([0, 7, 9])));
        assert_eq!(parse(&encode(&[])), Ok(HashSet::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_give_rows_or_an_error(payload: Vec<u8>) {
            let _ = parse(&payload);
        }
    }
}
