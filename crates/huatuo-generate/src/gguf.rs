//! Reading GGUF (version 2 and 3), every field checked against the file before anything is allocated for it.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::ops::Range;

use huatuo_compute::{Encoding, TensorView};

const MAGIC: &[u8; 4] = b"GGUF";
/// Alignment of tensor data when the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor in ggml.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays in arrays deeper than this are no sane model.
const MAX_DEPTH: usize = 4;
/// Elements of all arrays together. One takes 32 bytes of memory, but may take a single byte of the file; the longest
/// published vocabularies have a fourth of them in tokens, types, scores and merges.
const MAX_ELEMENTS: u64 = 1 << 23;

/// Why a file is no readable GGUF model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Not GGUF at all.
    #[error("not a GGUF file (it begins with {0:02x?}); is it the right download?")]
    BadMagic(Vec<u8>),
    /// A version this reader doesn't know.
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    UnsupportedVersion(u32),
    /// The file ends before a field does.
    #[error("{field} at byte {offset} needs {needed} bytes, the file has {available} left: it is truncated")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Where, from the start of the file.
        offset: usize,
        /// Bytes the field says it has.
        needed: u64,
        /// Bytes left.
        available: usize,
    },
    /// The header is longer than the bytes given so far.
    #[error("the header has at least {needed} bytes")]
    Incomplete {
        /// Bytes of the file that are needed to go on.
        needed: u64,
    },
    /// A field that can't be right.
    #[error("{field} at byte {offset} is invalid: {reason}")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// Where, from the start of the file.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// A metadata key that every model of this kind has is missing or of another type.
    #[error("metadata key `{key}` is missing or not {expected}")]
    Metadata {
        /// The key.
        key: String,
        /// Type asked for.
        expected: &'static str,
    },
    /// A tensor that the architecture needs is missing.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any integer or bool.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// An array; its elements are of one type.
    Array(Vec<Value>),
}

/// Metadata and tensor table of a file: all but the numbers.
#[derive(Debug)]
pub struct GgufHeader {
    metadata: BTreeMap<String, Value>,
    /// Where each value stands, type number first.
    metadata_spans: BTreeMap<String, Range<usize>>,
    tensors: BTreeMap<String, TensorPlace>,
}

/// A whole file in memory.
#[derive(Debug)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    header: GgufHeader,
}

/// Where a tensor's numbers stand and what they are.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlace {
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// How the numbers are stored.
    pub encoding: Encoding,
    /// Bytes of the file.
    pub data: Range<u64>,
}

impl GgufHeader {
    /// Parses the header of a file of `file_len` bytes from its first bytes. [`GgufError::Incomplete`] says how many of
    /// them are needed at least when these are too few.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, GgufError> {
        let mut cursor = Cursor { bytes, at: 0, file_len, elements: 0 };
        let magic = cursor.take(4, "magic")?;
        if magic != MAGIC {
            return Err(GgufError::BadMagic(magic.to_vec()));
        }
        let version = cursor.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::UnsupportedVersion(version));
        }
        let tensor_count = cursor.count("tensor count", 24)?; // a tensor entry has at least 24 bytes
        let metadata_count = cursor.count("metadata count", 13)?;
        let (mut metadata, mut metadata_spans) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..metadata_count {
            let at = cursor.at;
            let key = cursor.text("metadata key")?;
            let begin = cursor.at;
            let kind = cursor.u32("metadata type")?;
            let value = cursor.value(kind, 0)?;
            metadata_spans.insert(key.clone(), begin..cursor.at);
            if metadata.insert(key.clone(), value).is_some() {
                return Err(invalid("metadata key", at, format!("`{key}` stands twice")));
            }
        }
        let mut entries = Vec::new();
        for _ in 0..tensor_count {
            entries.push(cursor.tensor_entry()?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Integer(n)) if *n > 0 && *n <= 1 << 20 && (*n as u64).is_power_of_two() => *n as u64,
            Some(other) => return Err(invalid("general.alignment", 0, format!("{other:?} is no power of two"))),
        };
        let start = (cursor.at as u64).next_multiple_of(alignment);
        let tensors = place_tensors(entries, start, alignment, file_len)?;
        Ok(Self { metadata, metadata_spans, tensors })
    }

    /// A metadata value.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// Where each metadata value stands, its type number first.
    pub(crate) fn metadata_spans(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.metadata_spans.iter().map(|(key, span)| (key.as_str(), span.clone()))
    }

    /// A metadata text.
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(GgufError::Metadata { key: key.to_owned(), expected: "a text" }),
        }
    }

    /// A non-negative metadata integer.
    pub fn integer(&self, key: &str) -> Result<u64, GgufError> {
        match self.metadata.get(key) {
            Some(Value::Integer(n)) if u64::try_from(*n).is_ok() => Ok(*n as u64),
            _ => Err(GgufError::Metadata { key: key.to_owned(), expected: "a non-negative integer" }),
        }
    }

    /// A metadata float, `default` when the key is absent.
    pub fn float_or(&self, key: &str, default: f64) -> Result<f64, GgufError> {
        match self.metadata.get(key) {
            None => Ok(default),
            Some(Value::Float(x)) if x.is_finite() => Ok(*x),
            Some(_) => Err(GgufError::Metadata { key: key.to_owned(), expected: "a finite number" }),
        }
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorPlace)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's place.
    pub fn entry(&self, name: &str) -> Result<&TensorPlace, GgufError> {
        self.tensors.get(name).ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
    }
}

impl std::ops::Deref for Gguf<'_> {
    type Target = GgufHeader;

    fn deref(&self) -> &GgufHeader {
        &self.header
    }
}

impl<'a> Gguf<'a> {
    /// Parses header, metadata and tensor table.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        Ok(Self { bytes, header: GgufHeader::parse(bytes, bytes.len() as u64)? })
    }

    /// Each metadata key with its value's bytes, type number first.
    pub(crate) fn raw_metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.header.metadata_spans().map(|(key, span)| (key, &self.bytes[span]))
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A tensor's bytes and shape, slowest dimension first.
    pub fn tensor<'b>(&'b self, name: &'b str) -> Result<TensorView<'b>, GgufError> {
        let tensor = self.header.entry(name)?;
        Ok(TensorView {
            name,
            shape: &tensor.shape,
            encoding: tensor.encoding,
            bytes: &self.bytes[tensor.data.start as usize..tensor.data.end as usize],
        })
    }
}

/// A line of the tensor table.
struct TableLine {
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    bytes: u64,
    offset: u64,
    at: usize,
}

fn place_tensors(
    entries: Vec<TableLine>,
    start: u64,
    alignment: u64,
    file_len: u64,
) -> Result<BTreeMap<String, TensorPlace>, GgufError> {
    let mut tensors = BTreeMap::new();
    let mut spans = Vec::new();
    for entry in entries {
        let field = "tensor offset";
        if entry.offset % alignment != 0 {
            return Err(invalid(field, entry.at, format!("{} is not aligned to {alignment}", entry.offset)));
        }
        let begin = start.checked_add(entry.offset);
        let end = begin.and_then(|begin| begin.checked_add(entry.bytes));
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(invalid(field, entry.at, format!("{} overflows", entry.offset)));
        };
        if end > file_len {
            return Err(GgufError::Truncated {
                field: "tensor data",
                offset: begin as usize,
                needed: entry.bytes,
                available: file_len.saturating_sub(begin) as usize,
            });
        }
        spans.push((begin, end, entry.name.clone()));
        let tensor = TensorPlace { shape: entry.shape, encoding: entry.encoding, data: begin..end };
        if tensors.insert(entry.name.clone(), tensor).is_some() {
            return Err(invalid("tensor name", entry.at, format!("`{}` stands twice", entry.name)));
        }
    }
    spans.sort();
    if let Some(pair) = spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        let reason = format!("`{}` and `{}` overlap", pair[0].2, pair[1].2);
        return Err(invalid("tensor offset", pair[1].0 as usize, reason));
    }
    Ok(tensors)
}

fn invalid(field: &'static str, offset: usize, reason: String) -> GgufError {
    GgufError::Invalid { field, offset, reason }
}

struct Cursor<'a> {
    /// The file's first bytes, or all.
    bytes: &'a [u8],
    at: usize,
    file_len: u64,
    /// Elements of arrays so far.
    elements: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], GgufError> {
        let available = self.file_len - self.at as u64;
        if len > available {
            return Err(GgufError::Truncated { field, offset: self.at, needed: len, available: available as usize });
        }
        let end = self.at as u64 + len;
        if end > self.bytes.len() as u64 {
            return Err(GgufError::Incomplete { needed: end });
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count of things that take at least `least` bytes each, so it can't promise more than the file holds.
    fn count(&mut self, field: &'static str, least: u64) -> Result<u64, GgufError> {
        let offset = self.at;
        let count = self.u64(field)?;
        let available = self.file_len - self.at as u64;
        match count.checked_mul(least) {
            Some(needed) if needed <= available => Ok(count),
            needed => {
                let (needed, available) = (needed.unwrap_or(u64::MAX), available as usize);
                Err(GgufError::Truncated { field, offset, needed, available })
            }
        }
    }

    fn text(&mut self, field: &'static str) -> Result<String, GgufError> {
        let offset = self.at;
        let len = self.u64(field)?;
        let bytes = self.take(len, field)?;
        // Token texts may be cut inside a character; keys and names are ASCII, so nothing is lost that is looked up.
        String::from_utf8(bytes.to_vec()).map_err(|_| invalid(field, offset, "not UTF-8".to_owned()))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, GgufError> {
        const FIELD: &str = "metadata value";
        let at = self.at;
        Ok(match kind {
            0 => Value::Integer(self.array::<1>(FIELD)?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(FIELD)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(FIELD)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(FIELD)?).into()),
            4 => Value::Integer(self.u32(FIELD)?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(FIELD)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(FIELD)?).into()),
            7 => Value::Integer((self.array::<1>(FIELD)?[0] != 0).into()),
            8 => Value::Text(self.text(FIELD)?),
            9 if depth < MAX_DEPTH => {
                let kind = self.u32("array type")?;
                let count = self.count("array length", least_bytes(kind))?;
                self.elements = self.elements.saturating_add(count);
                if self.elements > MAX_ELEMENTS {
                    let reason = format!("the arrays have {} elements, at most {MAX_ELEMENTS} are sane", self.elements);
                    return Err(invalid("array length", at, reason));
                }
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(kind, depth + 1)?);
                }
                Value::Array(values)
            }
            10 => Value::Integer(self.u64(FIELD)?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array(FIELD)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array(FIELD)?)),
            other => return Err(invalid("metadata type", at, format!("{other} is no type"))),
        })
    }

    fn tensor_entry(&mut self) -> Result<TableLine, GgufError> {
        let at = self.at;
        let name = self.text("tensor name")?;
        let dimensions = self.u32("tensor dimensions")?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(invalid("tensor dimensions", at, format!("`{name}` has {dimensions}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64("tensor shape")?;
            let size =
                usize::try_from(size).map_err(|_| invalid("tensor shape", at, format!("{size} is too large")))?;
            shape.insert(0, size); // ggml writes the fastest dimension first
        }
        let kind = self.u32("tensor type")?;
        let encoding = match kind {
            0 => Encoding::F32,
            1 => Encoding::F16,
            2 => Encoding::Q4_0,
            8 => Encoding::Q8_0,
            12 => Encoding::Q4K,
            13 => Encoding::Q5K,
            14 => Encoding::Q6K,
            30 => Encoding::Bf16,
            _ => {
                let reason =
                    format!("`{name}` has ggml type {kind}; supported: F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K");
                return Err(invalid("tensor type", at, reason));
            }
        };
        let offset = self.u64("tensor offset")?;
        let numbers = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
        let blocks = numbers.map(|n| n / encoding.block_len() as u64);
        let Some(bytes) = blocks.and_then(|n| n.checked_mul(encoding.block_bytes() as u64)) else {
            return Err(invalid("tensor shape", at, format!("`{name}` of shape {shape:?} overflows")));
        };
        Ok(TableLine { name, shape, encoding, bytes, offset, at })
    }
}

/// Fewest bytes that one array element of a type takes.
fn least_bytes(kind: u32) -> u64 {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => 1, // an unknown type is refused at its first element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    /// One metadata text, one 2 × 2 tensor.
    fn tiny() -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        text(&mut bytes, "general.architecture");
        bytes.extend(8u32.to_le_bytes());
        text(&mut bytes, "qwen2");
        text(&mut bytes, "w");
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([2u64, 2].map(u64::to_le_bytes).concat());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend([1f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
        bytes
    }

    #[test]
    fn arrays_of_more_elements_than_any_model_has_are_refused_before_they_are_read() {
        let mut header = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        text(&mut header, "a");
        header.extend([9u32, 0].map(u32::to_le_bytes).concat()); // an array of bytes
        header.extend((MAX_ELEMENTS + 1).to_le_bytes());
        let error = GgufHeader::parse(&header, 1 << 30).unwrap_err().to_string();
        assert!(error.contains("the arrays have 8388609 elements"), "{error}");
    }

    #[test]
    fn a_small_file_is_read() {
        let bytes = tiny();
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.text("general.architecture"), Ok("qwen2"));
        assert_eq!(gguf.tensor("w").unwrap().shape, [2, 2]);
        assert_eq!(gguf.tensor("v").unwrap_err(), GgufError::MissingTensor("v".into()));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = tiny();
        for len in 0..bytes.len() {
            assert!(Gguf::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn no_flipped_bit_panics() {
        let bytes = tiny();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Gguf::parse(&flipped);
        }
    }

    #[test]
    fn a_giant_count_allocates_nothing() {
        let mut bytes = tiny();
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(Gguf::parse(&bytes), Err(GgufError::Truncated { field: "tensor count", .. })));
    }
}
