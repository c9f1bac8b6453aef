//! Whatever bytes a file holds, reading it gives records or a typed error.

#![allow(clippy::unwrap_used, reason = "a test fails where its preparation does")]

mod fixture;

use std::path::Path;

use fixture::{Column, LIST, LIST_OF_LISTS, lists, write};
use huatuo_data::{RecordReader, read_records};
use parquet::basic::Compression;
use proptest::prelude::*;

fn read_bytes(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    if let Err(error) = read_records(std::slice::from_ref(&path), 1.0) {
        assert!(!error.to_string().is_empty());
    }
}

/// The bytes with a few of them changed, and perhaps cut.
fn change(bytes: &mut Vec<u8>, changes: &[(usize, u8)], cut: usize) {
    for (at, byte) in changes {
        let at = at % bytes.len();
        bytes[at] ^= byte;
    }
    bytes.truncate(bytes.len() - cut % 8);
}

fn changes() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
    (proptest::collection::vec((any::<usize>(), 1u8..), 1..6), prop_oneof![4 => Just(0), 1 => any::<usize>()])
}

fn parquet_bytes(folder: &Path) -> Vec<u8> {
    let schema = format!("optional group questions {LIST_OF_LISTS} optional group answers {LIST} required int64 id;");
    let questions = lists(5, &[(0, Some("什么是感冒")), (2, Some("感冒是什么")), (0, Some("咳嗽"))]);
    let columns = [questions, lists(3, &[(0, Some("一")), (0, Some("二")), (1, None)]), Column::Numbers(vec![1, 2])];
    std::fs::read(write(folder, &schema, Compression::SNAPPY, &columns)).unwrap()
}

/// Lines that are nearly records.
const LINES: &str = "(\\{\"questions?\":(\"[^\"]{0,4}\"|\\[\"a\"\\]|null|1),\"answer\":\"\\PC{0,6}\"\\}?\n?){0,5}";
/// A record as a line.
const LINE: &[u8] = b"{\"question\":\"q\",\"answer\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\"}\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_as_lines(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_bytes("a.jsonl", &bytes);
        read_bytes("a.jsonl.gz", &bytes);
        read_bytes("a.jsonl.zst", &bytes);
        read_bytes("a.parquet", &bytes);
    }

    #[test]
    fn any_text_as_lines(text in LINES) {
        read_bytes("a.jsonl", text.as_bytes());
    }

    #[test]
    fn a_zstd_file_with_changed_bytes((changes, cut) in changes()) {
        let mut bytes = zstd::encode_all(LINE, 1).unwrap();
        change(&mut bytes, &changes, cut);
        read_bytes("a.jsonl.zst", &bytes);
    }

    #[test]
    fn a_parquet_file_with_changed_bytes((changes, cut) in changes()) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = parquet_bytes(folder.path());
        change(&mut bytes, &changes, cut);
        read_bytes("a.parquet", &bytes);
    }
}

#[test]
fn a_changed_bit_in_any_byte_of_a_parquet_file_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = parquet_bytes(folder.path());
    let path = folder.path().join("changed.parquet");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(reader) = RecordReader::open(std::slice::from_ref(&path), 1.0) else { continue };
        assert!(reader.count() < 1_000_000, "byte {at}");
    }
}
