//! Variable-length integers (LEB128, seven bits a byte, low bits first) and what is built on them.

use crate::error::Malformed;

/// Appends a number.
#[cfg(feature = "write")]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a text as its length in bytes and its UTF-8.
#[cfg(feature = "write")]
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a column: each number as the zigzag of its difference, modulo 2^64, to the one before.
#[cfg(feature = "write")]
pub(crate) fn put_column(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let mut previous = 0u64;
    for value in values {
        let delta = value.wrapping_sub(previous) as i64;
        put(out, ((delta << 1) ^ (delta >> 63)) as u64);
        previous = value;
    }
}

/// Reads from the front of a payload; never beyond its end.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("it ends in the middle of a value"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("it ends in the middle of a value"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("a number has more than 32 bits"))
    }

    /// A count of things that take at least `least_bytes` each: never more than the rest can hold, so that memory
    /// may be taken for it.
    pub fn count(&mut self, least_bytes: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        match count.checked_mul(least_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Malformed("a count is larger than the bytes that follow")),
        }
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.count(1)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// Whether nothing is left.
    #[cfg(feature = "write")]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, as bytes.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub fn column(&mut self, length: usize) -> Result<Vec<u64>, Malformed> {
        let mut previous = 0u64;
        let next = |_| {
            let coded = self.varint()?;
            previous = previous.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg());
            Ok(previous)
        };
        (0..length).map(next).collect()
    }

    /// Requires that nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes follow its end")) }
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_of_any_numbers_come_back(values: Vec<u64>) {
            let mut bytes = Vec::new();
            put_column(&mut bytes, values.iter().copied());
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.column(values.len()), Ok(values));
            prop_assert_eq!(cursor.finish(), Ok(()));
        }

        #[test]
        fn texts_come_back(text: String) {
            let mut bytes = Vec::new();
            put_text(&mut bytes, &text);
            prop_assert_eq!(Cursor::new(&bytes).text(), Ok(text.as_str()));
        }
    }

    #[test]
    fn numbers_of_more_than_64_bits_are_refused() {
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Cursor::new(&most).varint(), Ok(u64::MAX));
        let more = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(Cursor::new(&more).varint().is_err());
        assert!(Cursor::new(&[0x80; 20]).varint().is_err());
    }

    #[test]
    fn a_count_beyond_the_payload_is_refused_before_memory_is_taken() {
        let mut bytes = Vec::new();
        put(&mut bytes, u64::MAX);
        assert!(Cursor::new(&bytes).count(1).is_err());
        assert!(Cursor::new(&bytes).text().is_err());
    }
}
