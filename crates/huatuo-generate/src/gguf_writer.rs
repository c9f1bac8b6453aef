//! Writing GGUF (version 3) tensor by tensor, so that no file is ever held in memory.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::io::{self, Write};

use huatuo_compute::Encoding;

/// Alignment of tensor data when the metadata names none, as the format says.
const ALIGNMENT: usize = 32;

/// An encoding's number and name in ggml.
pub(crate) fn ggml_type(encoding: Encoding) -> (u32, &'static str) {
    match encoding {
        Encoding::F32 => (0, "F32"),
        Encoding::F16 => (1, "F16"),
        Encoding::Q4_0 => (2, "Q4_0"),
        Encoding::Q8_0 => (8, "Q8_0"),
        Encoding::Q4K => (12, "Q4_K"),
        Encoding::Q5K => (13, "Q5_K"),
        Encoding::Q6K => (14, "Q6_K"),
        Encoding::Bf16 => (30, "BF16"),
    }
}

/// A metadata value on its way into a file; readers are strict about the type of each key.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    /// Sizes and token ids.
    Unsigned(u32),
    /// Factors.
    Float(f32),
    /// Switches.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Tokens, merges.
    Texts(Vec<String>),
    /// Scores.
    Floats(Vec<f32>),
    /// Token types.
    Integers(Vec<i32>),
    /// A value as it stands in another GGUF file, type number first.
    Copied(Vec<u8>),
}

impl MetadataValue {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(x) => numbered(out, 4, &x.to_le_bytes()),
            Self::Float(x) => numbered(out, 6, &x.to_le_bytes()),
            Self::Bool(x) => numbered(out, 7, &[u8::from(*x)]),
            Self::Text(text) => {
                numbered(out, 8, &[]);
                write_text(out, text);
            }
            Self::Texts(texts) => {
                begin_array(out, 8, texts.len());
                texts.iter().for_each(|text| write_text(out, text));
            }
            Self::Floats(numbers) => {
                begin_array(out, 6, numbers.len());
                numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::Integers(numbers) => {
                begin_array(out, 5, numbers.len());
                numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::Copied(bytes) => out.extend(bytes),
        }
    }
}

fn numbered(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn begin_array(out: &mut Vec<u8>, kind: u32, len: usize) {
    numbered(out, 9, &kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor's entry in the table, before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name.
    pub name: String,
    /// Dimensions, slowest first; the last is a multiple of the encoding's block.
    pub shape: Vec<usize>,
    /// How the numbers will be stored.
    pub encoding: Encoding,
}

impl TensorEntry {
    /// Bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() / self.encoding.block_len() * self.encoding.block_bytes()
    }
}

/// A file being written: header and table at once, then the tensors' bytes in the table's order, in pieces of any size.
pub struct GgufWriter<W: Write> {
    out: W,
    /// Bytes of the tensors that are not complete yet, the current one last.
    left: Vec<usize>,
    /// Bytes that follow the current tensor to align the next one.
    padding: Vec<usize>,
}

impl<W: Write> GgufWriter<W> {
    /// Writes everything that stands before the first tensor's bytes.
    pub fn begin(mut out: W, metadata: &[(String, MetadataValue)], tensors: &[TensorEntry]) -> io::Result<Self> {
        let mut header = b"GGUF\x03\0\0\0".to_vec();
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            write_text(&mut header, key);
            value.write(&mut header);
        }
        let mut offset = 0usize;
        for tensor in tensors {
            write_text(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|&n| header.extend((n as u64).to_le_bytes()));
            header.extend(ggml_type(tensor.encoding).0.to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&header)?;
        let left: Vec<usize> = tensors.iter().rev().map(TensorEntry::bytes).collect();
        let padding = left.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT) - bytes).collect();
        Ok(Self { out, left, padding })
    }

    /// Writes some more bytes of the current tensor; the next tensor begins when they are complete.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.last_mut() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "bytes behind the last tensor"));
        };
        if bytes.len() > *left {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "bytes over the end of a tensor"));
        }
        *left -= bytes.len();
        let is_complete = *left == 0;
        self.out.write_all(bytes)?;
        if is_complete {
            self.left.pop();
            let padding = self.padding.pop().unwrap_or_default();
            self.out.write_all(&[0; ALIGNMENT][..padding])?;
        }
        Ok(())
    }

    /// Ends the file; an error when a tensor is not complete.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.left.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a tensor is not complete"));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gguf, Value};

    fn entry(name: &str, shape: &[usize], encoding: Encoding) -> TensorEntry {
        TensorEntry { name: name.to_owned(), shape: shape.to_vec(), encoding }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let metadata = [
            ("a".to_owned(), MetadataValue::Unsigned(7)),
            ("b".to_owned(), MetadataValue::Texts(vec!["x".to_owned(), "感".to_owned()])),
            ("c".to_owned(), MetadataValue::Float(0.5)),
            ("d".to_owned(), MetadataValue::Bool(true)),
            ("e".to_owned(), MetadataValue::Integers(vec![-1])),
        ];
        let tensors = [entry("odd", &[3], Encoding::F32), entry("next", &[2, 32], Encoding::Q8_0)];
        let mut writer = GgufWriter::begin(Vec::new(), &metadata, &tensors).unwrap();
        writer.write(&[1; 5]).unwrap();
        writer.write(&[2; 7]).unwrap();
        writer.write(&[3; 68]).unwrap();
        let file = writer.finish().unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.integer("a"), Ok(7));
        let texts = ["x", "感"].map(|text| Value::Text(text.to_owned())).to_vec();
        assert_eq!(gguf.metadata("b"), Some(&Value::Array(texts)));
        assert_eq!(gguf.float_or("c", 0.0), Ok(0.5));
        assert_eq!(gguf.integer("d"), Ok(1));
        assert_eq!(gguf.tensor("odd").unwrap().bytes, [[1; 5].as_slice(), &[2; 7]].concat());
        let next = gguf.tensor("next").unwrap();
        assert_eq!((next.shape, next.bytes), (&[2, 32][..], &[3u8; 68][..]));
    }

    #[test]
    fn too_few_and_too_many_bytes_are_refused() {
        let tensors = [entry("w", &[2], Encoding::F32)];
        let mut writer = GgufWriter::begin(Vec::new(), &[], &tensors).unwrap();
        assert!(writer.write(&[0; 9]).is_err());
        writer.write(&[0; 4]).unwrap();
        assert!(writer.finish().is_err());
    }
}
