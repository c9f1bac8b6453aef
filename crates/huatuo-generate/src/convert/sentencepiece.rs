//! Reading `tokenizer.model`: SentencePiece's model file, a Protocol Buffers message.
//!
//! Format: <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto> over
//! <https://protobuf.dev/programming-guides/encoding/>.

use super::ConvertError;

const FILE: &str = "tokenizer.model";
/// `TrainerSpec.model_type` of byte-pair encoding.
const BPE: u64 = 2;

/// What a SentencePiece model holds, as far as GGUF keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct SentencePieceModel {
    /// Pieces in the order of their ids.
    pub pieces: Vec<Piece>,
    /// Whether a text is read as if it began with a space.
    pub add_dummy_prefix: bool,
    /// Whether spaces are trimmed and joined.
    pub remove_extra_whitespaces: bool,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its text, spaces as `▁`.
    pub text: String,
    /// The higher, the earlier merged.
    pub score: f32,
    /// Its type, numbered alike in SentencePiece and GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
    /// 6 byte.
    pub kind: i32,
}

impl SentencePieceModel {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConvertError> {
        let mut model = Self { pieces: Vec::new(), add_dummy_prefix: true, remove_extra_whitespaces: true };
        let mut kind = 1; // unigram is the format's default
        let mut message = Message { bytes, at: 0 };
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Wire::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Wire::Bytes(trainer)) => {
                    let mut trainer = Message { bytes: trainer, at: 0 };
                    while let Some((field, value)) = trainer.field()? {
                        if let (3, Wire::Integer(value)) = (field, value) {
                            kind = value;
                        }
                    }
                }
                (3, Wire::Bytes(normalizer)) => {
                    let mut normalizer = Message { bytes: normalizer, at: 0 };
                    while let Some((field, value)) = normalizer.field()? {
                        match (field, value) {
                            (3, Wire::Integer(value)) => model.add_dummy_prefix = value != 0,
                            (4, Wire::Integer(value)) => model.remove_extra_whitespaces = value != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if kind != BPE {
            return Err(ConvertError::UnsupportedTokenizer(format!(
                "{FILE} is of SentencePiece's type {kind}, not BPE"
            )));
        }
        if model.pieces.is_empty() {
            return Err(bad("it holds no piece".to_owned()));
        }
        Ok(model)
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Self, ConvertError> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: 1 };
        let mut message = Message { bytes, at: 0 };
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Wire::Bytes(text)) => {
                    let text = std::str::from_utf8(text).map_err(|_| bad("a piece is not UTF-8".to_owned()))?;
                    piece.text = text.to_owned();
                }
                (2, Wire::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (3, Wire::Integer(kind @ 1..=6)) => piece.kind = kind as i32,
                (3, _) => return Err(bad(format!("piece `{}` has an unknown type", piece.text))),
                _ => {}
            }
        }
        if !piece.score.is_finite() {
            return Err(bad(format!("piece `{}` has the score {}", piece.text, piece.score)));
        }
        Ok(piece)
    }
}

fn bad(reason: String) -> ConvertError {
    ConvertError::BadFile { file: FILE, reason }
}

/// A field's value.
enum Wire<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64,
}

/// A cursor over a message's fields.
struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Message<'a> {
    fn field(&mut self) -> Result<Option<(u64, Wire<'a>)>, ConvertError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Integer(self.varint()?),
            1 => {
                self.take(8)?;
                Wire::Fixed64
            }
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Wire::Fixed32(u32::from_le_bytes(bits))
            }
            other => return Err(bad(format!("a field has the unknown wire type {other}"))),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], ConvertError> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() as u64 {
            return Err(bad(format!("a field needs {len} bytes, its message has {} left", rest.len())));
        }
        self.at += len as usize;
        Ok(&rest[..len as usize])
    }

    fn varint(&mut self) -> Result<u64, ConvertError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(bad("a number has more than ten bytes".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces `<unk>` (unknown) and `▁a` (score −1), BPE, no dummy prefix.
    fn tiny() -> Vec<u8> {
        let mut bytes = b"\x0a\x09\x0a\x05<unk>\x18\x02".to_vec();
        bytes.extend(b"\x0a\x0b\x0a\x04\xe2\x96\x81a\x15");
        bytes.extend((-1f32).to_le_bytes());
        bytes.extend(b"\x12\x02\x18\x02\x1a\x02\x18\x00");
        bytes
    }

    #[test]
    fn pieces_scores_types_and_the_prefix_are_read() {
        let model = SentencePieceModel::parse(&tiny()).unwrap();
        assert_eq!(model.pieces[0], Piece { text: "<unk>".to_owned(), score: 0.0, kind: 2 });
        assert_eq!(model.pieces[1], Piece { text: "▁a".to_owned(), score: -1.0, kind: 1 });
        assert!(!model.add_dummy_prefix && model.remove_extra_whitespaces);
    }

    #[test]
    fn damage_never_panics() {
        let bytes = tiny();
        for len in 0..bytes.len() {
            let _ = SentencePieceModel::parse(&bytes[..len]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = SentencePieceModel::parse(&flipped);
        }
        assert!(SentencePieceModel::parse(&bytes[..9]).is_err(), "cut in a piece");
        assert!(SentencePieceModel::parse(&[0xff; 12]).is_err());
    }

    #[test]
    fn another_kind_of_model_is_refused() {
        let mut bytes = tiny();
        let at = bytes.len() - 5;
        bytes[at] = 1; // unigram
        assert!(matches!(SentencePieceModel::parse(&bytes), Err(ConvertError::UnsupportedTokenizer(_))));
    }
}
