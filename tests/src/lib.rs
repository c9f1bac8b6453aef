//! Cross-crate tests live in `tests/`; here is what they share.

pub mod index_target;
pub mod mutation;
pub mod reader_targets;
pub mod request_target;
pub mod small_models;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A metadata value of a GGUF file under construction.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A text.
    Text(String),
    /// An unsigned number of 32 bits.
    Number(u32),
    /// True or false.
    Flag(bool),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of numbers.
    Numbers(Vec<i32>),
    /// An array of fractions.
    Floats(Vec<f32>),
}

/// Bytes of a GGUF file that holds metadata only.
pub fn gguf(entries: &BTreeMap<String, Entry>) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        text(&mut bytes, key);
        match value {
            Entry::Text(value) => {
                bytes.extend(8u32.to_le_bytes());
                text(&mut bytes, value);
            }
            Entry::Number(value) => bytes.extend([4, *value].map(u32::to_le_bytes).concat()),
            Entry::Flag(value) => bytes.extend([7, 0, 0, 0, u8::from(*value)]),
            Entry::Texts(values) => {
                array(&mut bytes, 8, values.len());
                values.iter().for_each(|value| text(&mut bytes, value));
            }
            Entry::Numbers(values) => {
                array(&mut bytes, 5, values.len());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Entry::Floats(values) => {
                array(&mut bytes, 6, values.len());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn array(bytes: &mut Vec<u8>, kind: u32, len: usize) {
    bytes.extend([9, kind].map(u32::to_le_bytes).concat());
    bytes.extend((len as u64).to_le_bytes());
}
