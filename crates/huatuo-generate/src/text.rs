//! Text to tokens and back.

use tokenizers::Tokenizer;

use crate::GenerateError;
use crate::byte_level::HIDDEN;
use crate::gguf_tokenizer::Ends;
use crate::sentence_piece::{PieceStream, SentencePiece};

/// A tokenizer whose special tokens are never read out of ordinary text.
pub struct TextTokenizer {
    kind: Kind,
    ends: Ends,
}

enum Kind {
    Library(Box<Tokenizer>),
    SentencePiece(Box<SentencePiece>),
}

/// Tokens of an answer on their way to whole characters.
#[derive(Debug, Default)]
pub struct TokenStream {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
    pieces: PieceStream,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, GenerateError> {
        let mut inner =
            huatuo_tokenizer::from_json(bytes).map_err(|error| GenerateError::Tokenizer(error.to_string()))?;
        // A prompt is read whole.
        inner.with_truncation(None).map_err(|error| GenerateError::Tokenizer(error.to_string()))?;
        // A question that contains `<|im_end|>` must not end the question.
        inner.set_encode_special_tokens(true);
        // Ids run from 0 without a gap in every sound file; a damaged one could name a row that no model has.
        let size = inner.get_vocab_size(true);
        if size == 0 || inner.get_vocab(true).values().any(|id| *id as usize >= size) {
            return Err(GenerateError::Tokenizer("its token ids are not 0 to the number of tokens".to_owned()));
        }
        Ok(Self::from_library(inner))
    }

    pub(crate) fn from_library(tokenizer: Tokenizer) -> Self {
        Self { kind: Kind::Library(Box::new(tokenizer)), ends: Ends::default() }
    }

    pub(crate) fn from_sentence_piece(vocabulary: SentencePiece) -> Self {
        Self { kind: Kind::SentencePiece(Box::new(vocabulary)), ends: Ends::default() }
    }

    pub(crate) fn set_ends(&mut self, ends: Ends) {
        self.ends = ends;
    }

    /// Number of tokens, added ones included.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Library(inner) => inner.get_vocab_size(true),
            Kind::SentencePiece(vocabulary) => vocabulary.len(),
        }
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of a text, special ones read as text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        let inner = match &self.kind {
            Kind::Library(inner) => inner,
            Kind::SentencePiece(vocabulary) => return Ok(vocabulary.encode(text)),
        };
        let encoding = inner.encode(text, false).map_err(|error| GenerateError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        let known = self.len();
        match ids.iter().find(|id| **id as usize >= known) {
            Some(id) => Err(GenerateError::Tokenizer(format!("it gave the unknown token {id}"))),
            None => Ok(ids.to_vec()),
        }
    }

    /// The token of a mark such as `<|im_end|>`.
    pub fn mark(&self, mark: &str) -> Result<u32, GenerateError> {
        let id = match &self.kind {
            Kind::Library(inner) => {
                // Not any token: one of ordinary text could be written by a user.
                let added = inner.get_added_vocabulary().get_vocab();
                added.get(&format!("{HIDDEN}{mark}")).or_else(|| added.get(mark)).copied()
            }
            Kind::SentencePiece(vocabulary) => vocabulary.mark(mark),
        };
        id.ok_or_else(|| GenerateError::Tokenizer(format!("the token {mark} is missing")))
    }

    /// The token that begins a text, where the model's tokenizer writes one by itself.
    pub fn bos(&self) -> Option<u32> {
        self.ends.bos
    }

    /// Tokens that the model file names as ending a message.
    pub fn eos(&self) -> &[u32] {
        &self.ends.eos
    }

    /// A token as it stands in the vocabulary; ASCII punctuation and digits are themselves in every kind of it.
    pub fn raw_token(&self, id: u32) -> Option<String> {
        match &self.kind {
            Kind::Library(inner) => {
                inner.id_to_token(id).map(|token| token.strip_prefix(HIDDEN).map(str::to_owned).unwrap_or(token))
            }
            Kind::SentencePiece(vocabulary) => vocabulary.raw_token(id),
        }
    }

    /// Adds a token to a stream; gives text when whole characters are complete.
    pub fn step(&self, stream: &mut TokenStream, id: u32) -> Result<Option<String>, GenerateError> {
        match &self.kind {
            Kind::Library(inner) => tokenizers::step_decode_stream(
                inner,
                vec![id],
                true,
                &mut stream.ids,
                &mut stream.prefix,
                &mut stream.prefix_index,
            )
            .map_err(|error| GenerateError::Tokenizer(error.to_string())),
            Kind::SentencePiece(vocabulary) => Ok(vocabulary.step(&mut stream.pieces, id)),
        }
    }
}
