//! Text to tokens and back.

use tokenizers::Tokenizer;

use crate::GenerateError;

/// A tokenizer whose special tokens are never read out of ordinary text.
pub struct TextTokenizer {
    inner: Tokenizer,
}

/// Tokens of an answer on their way to whole characters.
#[derive(Debug, Default)]
pub struct TokenStream {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, GenerateError> {
        let mut inner = Tokenizer::from_bytes(bytes).map_err(|error| GenerateError::Tokenizer(error.to_string()))?;
        // A question that contains `<|im_end|>` must not end the question.
        inner.set_encode_special_tokens(true);
        // Ids run from 0 without a gap in every sound file; a damaged one could name a row that no model has.
        let size = inner.get_vocab_size(true);
        if size == 0 || inner.get_vocab(true).values().any(|id| *id as usize >= size) {
            return Err(GenerateError::Tokenizer("its token ids are not 0 to the number of tokens".to_owned()));
        }
        Ok(Self { inner })
    }

    /// Number of tokens, added ones included.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of a text, special ones read as text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        let encoding = self.inner.encode(text, false).map_err(|error| GenerateError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|id| **id as usize >= self.len()) {
            Some(id) => Err(GenerateError::Tokenizer(format!("it gave the unknown token {id}"))),
            None => Ok(ids.to_vec()),
        }
    }

    /// The token of a mark such as `<|im_end|>`.
    pub fn mark(&self, mark: &str) -> Result<u32, GenerateError> {
        self.inner.token_to_id(mark).ok_or_else(|| GenerateError::Tokenizer(format!("the token {mark} is missing")))
    }

    /// A token as it stands in the vocabulary; ASCII punctuation and digits are themselves in every kind of it.
    pub fn raw_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Adds a token to a stream; gives text when whole characters are complete.
    pub fn step(&self, stream: &mut TokenStream, id: u32) -> Result<Option<String>, GenerateError> {
        tokenizers::step_decode_stream(
            &self.inner,
            vec![id],
            true,
            &mut stream.ids,
            &mut stream.prefix,
            &mut stream.prefix_index,
        )
        .map_err(|error| GenerateError::Tokenizer(error.to_string()))
    }
}
