//! Reading safetensors, every field checked against the file before anything is allocated for it.
//!
//! Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeMap;

use huatuo_compute::{Encoding, TensorView};
use serde::Deserialize;

use super::ConvertError;

/// Largest sane header: a model of a hundred thousand tensors takes a tenth.
const MAX_HEADER: u64 = 100 << 20;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// One safetensors file over its bytes.
pub struct Safetensors<'a> {
    file: &'a str,
    data: &'a [u8],
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    shape: Vec<usize>,
    encoding: Encoding,
    start: usize,
    end: usize,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'a> Safetensors<'a> {
    /// Parses the header of a file, whose name is for messages.
    pub fn parse(file: &'a str, bytes: &'a [u8]) -> Result<Self, ConvertError> {
        let bad = |what: &str, offset: u64, reason: String| ConvertError::Safetensors {
            file: file.to_owned(),
            what: what.to_owned(),
            offset,
            reason,
        };
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(bad("header length", 0, format!("the file has only {} bytes", bytes.len())));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER || length > rest.len() as u64 {
            return Err(bad("header length", 0, format!("it says {length}, the file has {} bytes left", rest.len())));
        }
        let (header, data) = rest.split_at(length as usize);
        let header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|error| bad("header", 8, error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, value) in header {
            if name == "__metadata__" {
                continue;
            }
            let raw = RawEntry::deserialize(value).map_err(|error| bad(&name, 8, error.to_string()))?;
            let offset = raw.data_offsets.0.saturating_add(8 + length);
            let entry = Entry::check(&raw, data.len()).map_err(|reason| bad(&name, offset, reason))?;
            tensors.insert(name, entry);
        }
        let mut spans: Vec<_> = tensors.iter().map(|(name, entry)| (entry.start, entry.end, name)).collect();
        spans.sort();
        if let Some(pair) = spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            let reason = format!("it overlaps `{}`", pair[0].2);
            return Err(bad(pair[1].2, 8 + length + pair[1].0 as u64, reason));
        }
        Ok(Self { file, data, tensors })
    }

    /// Name of the file.
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's bytes and shape.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, entry) = self.tensors.get_key_value(name)?;
        let bytes = &self.data[entry.start..entry.end];
        Some(TensorView { name, shape: &entry.shape, encoding: entry.encoding, bytes })
    }
}

impl Entry {
    /// Checks an entry against the bytes behind the header.
    fn check(raw: &RawEntry, available: usize) -> Result<Self, String> {
        let encoding = match raw.dtype.as_str() {
            "F32" => Encoding::F32,
            "F16" => Encoding::F16,
            "BF16" => Encoding::Bf16,
            other => return Err(format!("its type is {other}; supported: F32, F16, BF16")),
        };
        let (start, end) = raw.data_offsets;
        if start > end || end > available as u64 {
            return Err(format!("it spans bytes {start} to {end} of the data, the file holds {available}"));
        }
        if raw.shape.is_empty() || raw.shape.len() > MAX_DIMENSIONS {
            return Err(format!("it has {} dimensions", raw.shape.len()));
        }
        let numbers = raw.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let needed = numbers.and_then(|n| n.checked_mul(encoding.block_bytes() as u64));
        if needed != Some(end - start) {
            return Err(format!("{:?} in {} don't take {} bytes", raw.shape, raw.dtype, end - start));
        }
        if needed == Some(0) {
            return Err("it is empty".to_owned());
        }
        let shape = raw.shape.iter().map(|&n| n as usize).collect();
        Ok(Self { shape, encoding, start: start as usize, end: end as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    }

    fn error(header: &str, data: usize) -> String {
        Safetensors::parse("m.safetensors", &file(header, data)).err().unwrap().to_string()
    }

    const SOUND: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}"#;

    #[test]
    fn a_sound_file_is_read() {
        let bytes = file(SOUND, 12);
        let tensors = Safetensors::parse("m.safetensors", &bytes).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b"]);
        let b = tensors.tensor("b").unwrap();
        assert_eq!((b.shape, b.encoding, b.bytes.len()), (&[2][..], Encoding::Bf16, 4));
    }

    #[test]
    fn damage_is_named_with_file_tensor_and_offset() {
        let overlap = SOUND.replace("[8,12]", "[4,8]");
        assert_eq!(
            error(&overlap, 12),
            format!("m.safetensors: b at byte {} is invalid: it overlaps `a`", overlap.len() + 12)
        );
        assert!(error(&SOUND.replace("[8,12]", "[8,13]"), 12).contains("the file holds 12"));
        assert!(error(&SOUND.replace("[2,1]", "[2,2]"), 12).contains("don't take 8 bytes"));
        let huge = format!("[{},{}]", u64::MAX, u64::MAX);
        assert!(error(&SOUND.replace("[2,1]", &huge), 12).contains("don't take 8 bytes"));
        assert!(error(&SOUND.replace("BF16", "I64"), 12).contains("I64"));
        assert!(error(&SOUND.replace("[8,12]", "[12,8]"), 12).contains("spans"));
        assert!(error("{", 0).contains("header"));
        assert!(error(r#"{"a":3}"#, 0).contains("a at byte 8"));
    }

    #[test]
    fn a_giant_header_length_allocates_nothing() {
        let mut bytes = file(SOUND, 12);
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Safetensors::parse("m.safetensors", &bytes).is_err());
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let bytes = file(SOUND, 12);
        for len in 0..bytes.len() {
            assert!(Safetensors::parse("m.safetensors", &bytes[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Safetensors::parse("m.safetensors", &flipped);
        }
    }
}
