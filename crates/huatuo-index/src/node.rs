//! A NODES block: the lists below one node of the root, with a one-bit code of each list's centroid and where the list lies.

use crate::error::Malformed;
use crate::varint::Cursor;

/// Least bytes of a list's entry beside its code: its length.
const LEAST_LENGTH_BYTES: usize = 1;

/// The lists of a node: they lie behind one another in one pack.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub number: u32,
    /// Position of the pack that has the lists.
    pub pack: u32,
    /// Code, first byte and bytes of each list's block.
    pub lists: Vec<(&'a [u8], u64, u32)>,
}

/// What a node is made of: codes of all lists, and the bytes of their blocks.
#[cfg(feature = "write")]
pub(crate) fn encode_node(number: u32, (pack, offset): (u32, u64), codes: &[u8], lengths: &[u32]) -> Vec<u8> {
    use crate::varint::put;
    let mut out = Vec::with_capacity(codes.len() + 3 * lengths.len() + 16);
    put(&mut out, u64::from(number));
    put(&mut out, u64::from(pack));
    put(&mut out, offset);
    put(&mut out, lengths.len() as u64);
    out.extend_from_slice(codes);
    lengths.iter().for_each(|length| put(&mut out, u64::from(*length)));
    out
}

impl<'a> Node<'a> {
    pub fn parse(payload: &'a [u8], code_bytes: usize) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (number, pack, mut offset) = (cursor.varint_u32()?, cursor.varint_u32()?, cursor.varint()?);
        let count = cursor.count(code_bytes + LEAST_LENGTH_BYTES)?;
        let codes = cursor.take(count * code_bytes)?;
        let mut lists = Vec::with_capacity(count);
        for code in codes.chunks_exact(code_bytes) {
            let length = cursor.varint_u32()?;
            lists.push((code, offset, length));
            offset = offset.checked_add(u64::from(length)).ok_or(Malformed("a list lies beyond any pack"))?;
        }
        cursor.finish()?;
        Ok(Self { number, pack, lists })
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_follow_one_another() {
        let payload = encode_node(7, (3, 100), &[1, 1, 2, 2], &[50, 60]);
        let node = Node::parse(&payload, 2).unwrap();
        assert_eq!((node.number, node.pack), (7, 3));
        assert_eq!(node.lists, [(&[1, 1][..], 100, 50), (&[2, 2][..], 150, 60)]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_node_or_an_error(payload: Vec<u8>) {
            let _ = Node::parse(&payload, 14);
        }
    }
}
