//! A document's length in one byte: exact below 40 terms, then with four significant bits.
//!
//! The coding is that of Lucene's `SmallFloat.intToByte4`, so its effect on ranking is well known.

/// Lengths below this are stored as they are: 255 minus the code of the largest signed 32-bit number, 231.
const EXACT: u32 = 24;

/// Codes a length in terms; a longer document never gets a smaller byte.
pub(crate) fn to_byte(length: u32) -> u8 {
    // Lucene's lengths are signed, which is what makes the codes end at 255.
    let length = length.min(i32::MAX as u32);
    if length < EXACT {
        return length as u8;
    }
    let rest = length - EXACT;
    let bits = u32::BITS - rest.leading_zeros();
    let coded = if bits < 4 { rest } else { ((rest >> (bits - 4)) & 7) | ((bits - 3) << 3) };
    (EXACT + coded) as u8
}

/// The smallest length in terms that has this code.
pub(crate) fn from_byte(byte: u8) -> u32 {
    let byte = u32::from(byte);
    if byte < EXACT {
        return byte;
    }
    let (exponent, mantissa) = ((byte - EXACT) >> 3, (byte - EXACT) & 7);
    EXACT + if exponent == 0 { mantissa } else { (mantissa | 8) << (exponent - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_documents_are_exact_and_every_byte_comes_back() {
        assert!((0..40).all(|length| from_byte(to_byte(length)) == length));
        assert!((0..=255).all(|byte| to_byte(from_byte(byte)) == byte));
    }

    #[test]
    fn long_documents_lose_at_most_an_eighth() {
        for length in (40..100_000).chain([i32::MAX as u32]) {
            let read = from_byte(to_byte(length));
            assert!(read <= length && length - read <= length / 8, "{length} became {read}");
        }
    }
}
