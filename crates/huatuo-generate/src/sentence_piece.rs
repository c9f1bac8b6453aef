//! SentencePiece's BPE (Kudo & Richardson 2018; Llama 1 and 2, Baichuan, ChatGLM) from pieces and their scores.

use std::collections::HashMap;

use crate::GenerateError;
use crate::gguf_tokenizer::{KINDS, Kind, TOKENS, Token, bad};
use crate::piece_merging::{Merging, Symbol};

/// What SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

/// A vocabulary that cuts text into its pieces.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    tokens: Vec<(String, Kind)>,
    scores: Vec<f32>,
    /// Pieces that text can become.
    pieces: HashMap<String, u32>,
    /// Tokens that no text becomes.
    marks: HashMap<String, u32>,
    /// Tokens of the 256 bytes, for characters that are in no piece.
    bytes: Option<Vec<u32>>,
    unknown: Option<u32>,
    /// Lengths of user-defined pieces in bytes, longest first.
    user_defined: Vec<usize>,
    /// Bytes of the longest piece.
    longest: usize,
    /// Whether a text is read as if a space stood before it.
    space_prefix: bool,
}

/// Pieces of an answer on their way to whole characters.
#[derive(Debug, Default)]
pub(crate) struct PieceStream {
    bytes: Vec<u8>,
    begun: bool,
}

impl SentencePiece {
    /// A vocabulary of tokens and as many scores.
    pub fn new(tokens: &[Token<'_>], scores: Vec<f32>, space_prefix: bool) -> Result<Self, GenerateError> {
        let (mut pieces, mut marks, mut unknown) = (HashMap::new(), HashMap::new(), None);
        let (mut bytes, mut byte_tokens) = (vec![0; 256], 0);
        let mut user_defined = Vec::new();
        for (id, token) in (0..).zip(tokens) {
            match token.kind {
                Kind::Normal | Kind::UserDefined | Kind::Unused => {
                    pieces.insert(token.text.to_owned(), id);
                }
                Kind::Byte => {
                    let byte = byte_value(token.text)
                        .ok_or_else(|| bad(TOKENS, format!("has the byte {:?}, which is not <0xNN>", token.text)))?;
                    (bytes[usize::from(byte)], byte_tokens) = (id, byte_tokens + 1);
                }
                Kind::Control | Kind::Unknown => {
                    marks.insert(token.text.to_owned(), id);
                }
            }
            match token.kind {
                Kind::UserDefined if !token.text.is_empty() => user_defined.push(token.text.len()),
                Kind::Unknown if unknown.is_none() => unknown = Some(id),
                _ => {}
            }
        }
        let bytes = match byte_tokens {
            0 if unknown.is_none() => return Err(bad(KINDS, "names no byte tokens (6) and no unknown token (2)")),
            0 => None,
            256 => Some(bytes),
            n => return Err(bad(KINDS, format!("names {n} byte tokens (6), expected none or 256"))),
        };
        user_defined.sort_unstable_by(|a, b| b.cmp(a));
        user_defined.dedup();
        Ok(Self {
            tokens: tokens.iter().map(|token| (token.text.to_owned(), token.kind)).collect(),
            scores,
            longest: pieces.keys().map(String::len).max().unwrap_or(0),
            pieces,
            marks,
            bytes,
            unknown,
            user_defined,
            space_prefix,
        })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token of a mark that no text becomes.
    pub fn mark(&self, mark: &str) -> Option<u32> {
        self.marks.get(mark).copied()
    }

    /// A token as it stands in the vocabulary, but bytes that are ASCII as themselves.
    pub fn raw_token(&self, id: u32) -> Option<String> {
        let (text, kind) = self.tokens.get(id as usize)?;
        let ascii = byte_value(text).filter(|byte| *kind == Kind::Byte && byte.is_ascii());
        Some(ascii.map_or_else(|| text.clone(), |byte| char::from(byte).to_string()))
    }

    /// Tokens of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let prefix = if self.space_prefix { " " } else { "" };
        let text = format!("{prefix}{text}").replace(' ', SPACE.encode_utf8(&mut [0; 4]));
        let parts = Merging::new(self, &text, self.symbols(&text)).run();
        self.spell(&parts)
    }

    /// Tokens of parts of a text: pieces, or else the bytes of a character.
    fn spell(&self, parts: &[&str]) -> Vec<u32> {
        let (mut ids, mut after_unknown) = (Vec::new(), false);
        for part in parts {
            let id = self.pieces.get(*part);
            match (id, &self.bytes) {
                (Some(id), _) => ids.push(*id),
                (None, Some(bytes)) => ids.extend(part.bytes().map(|byte| bytes[usize::from(byte)])),
                (None, None) if after_unknown => {} // a run of unknown characters is one token
                (None, None) => ids.extend(self.unknown),
            }
            after_unknown = id.is_none();
        }
        ids
    }

    /// The token, kind and score of a piece.
    pub fn piece(&self, text: &str) -> Option<(u32, Kind, f32)> {
        if text.len() > self.longest {
            return None; // not worth hashing
        }
        let id = *self.pieces.get(text)?;
        Some((id, self.tokens[id as usize].1, self.scores[id as usize]))
    }

    /// User-defined pieces, which are never merged, and single characters.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let is_user_defined = |len: &usize| {
                let piece = text.get(start..start + *len).and_then(|piece| self.piece(piece));
                piece.is_some_and(|(_, kind, _)| kind == Kind::UserDefined)
            };
            let frozen = self.user_defined.iter().copied().find(is_user_defined);
            let end = start + frozen.unwrap_or(c.len_utf8());
            let at = symbols.len();
            symbols.push(Symbol { start, end, previous: at.checked_sub(1), next: at + 1, frozen: frozen.is_some() });
            start = end;
        }
        symbols
    }

    /// Adds a token to a stream; gives text when whole characters are complete. Marks show nothing.
    pub fn step(&self, stream: &mut PieceStream, id: u32) -> Option<String> {
        let (text, kind) = self.tokens.get(id as usize)?;
        let mut shown = String::new();
        match kind {
            Kind::Control | Kind::Unknown => return None,
            Kind::Byte => {
                stream.bytes.extend(byte_value(text));
                take_characters(&mut stream.bytes, &mut shown, false);
            }
            Kind::Normal | Kind::UserDefined | Kind::Unused => {
                take_characters(&mut stream.bytes, &mut shown, true);
                let prefix = !stream.begun && self.space_prefix; // not part of the text
                let text = text.strip_prefix(SPACE).filter(|_| prefix).unwrap_or(text);
                shown.push_str(&text.replace(SPACE, " "));
            }
        }
        stream.begun = true;
        (!shown.is_empty()).then_some(shown)
    }
}

/// Moves whole characters from bytes to text, and bytes that begin none as replacement characters. What may still become
/// a character stays, unless nothing `more` of it can come.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String, is_end: bool) {
    while !bytes.is_empty() {
        let (valid, hopeless) = match std::str::from_utf8(bytes) {
            Ok(all) => (all.len(), false),
            Err(error) => (error.valid_up_to(), is_end || error.error_len().is_some()),
        };
        text.push_str(&String::from_utf8_lossy(&bytes[..valid]));
        bytes.drain(..valid);
        if !hopeless {
            return;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        bytes.remove(0);
    }
}

/// The byte of a token such as `<0x0A>`.
fn byte_value(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && !digits.starts_with('+')).then(|| u8::from_str_radix(digits, 16).ok())?
}
