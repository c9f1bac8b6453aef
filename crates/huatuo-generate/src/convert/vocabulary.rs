//! Tokens by id, whatever file they come from.

use serde::Deserialize;
use serde_json::Value;

use super::ConvertError;

/// Types of tokens in GGUF.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// Tokens by id.
pub(super) struct Vocabulary {
    /// `tokenizer.ggml.model`.
    pub model: &'static str,
    /// How texts are split, by llama.cpp's name.
    pub pre: Option<&'static str>,
    /// Texts.
    pub tokens: Vec<String>,
    /// Types.
    pub types: Vec<i32>,
    /// Order of merging where there is no list of merges.
    pub scores: Option<Vec<f32>>,
    /// Pairs in the order of merging.
    pub merges: Option<Vec<String>>,
    /// Whether a text is read as if it began with a space.
    pub space_prefix: Option<bool>,
    /// Whether spaces are trimmed and joined.
    pub extra_whitespaces: Option<bool>,
    /// Whether the tokenizer itself begins texts with a mark.
    pub add_bos: Option<bool>,
}

/// A token that is added to those of the model.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    /// Its id.
    #[serde(default)]
    pub id: u64,
    /// Its text.
    pub content: String,
    /// Whether it is a mark, never read out of a text.
    #[serde(default)]
    pub special: bool,
}

impl Vocabulary {
    /// Nothing but placeholders, one for each row of the embedding.
    pub fn padded(model: &'static str, rows: usize) -> Self {
        Self {
            model,
            pre: None,
            tokens: (0..rows).map(|id| format!("[PAD{id}]")).collect(),
            types: vec![UNUSED; rows],
            scores: None,
            merges: None,
            space_prefix: None,
            extra_whitespaces: None,
            add_bos: None,
        }
    }

    /// Checks that an id has a row.
    pub fn fits(&self, id: u64) -> Result<(), ConvertError> {
        let rows = self.tokens.len();
        if id < rows as u64 {
            return Ok(());
        }
        Err(ConvertError::UnsupportedTokenizer(format!("it has the token {id}, the model only {rows} rows")))
    }

    /// Adds or renames tokens.
    pub fn add_tokens(&mut self, added: Vec<AddedToken>) -> Result<(), ConvertError> {
        for token in added {
            self.fits(token.id)?;
            let id = token.id as usize;
            // What the model itself calls unknown or a byte stays that.
            if !matches!(self.types[id], UNKNOWN | BYTE) {
                self.types[id] = if token.special { CONTROL } else { USER_DEFINED };
            }
            self.tokens[id] = token.content;
        }
        Ok(())
    }

    /// Ids of the marks that a text begins and ends with, by their texts or else by config.json's numbers.
    pub fn special_ids(&self, settings: &Value, config: &Value) -> Vec<(&'static str, u32)> {
        let names = [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];
        let id = |name: &str| {
            let token = &settings[format!("{name}_token")];
            let text = token.as_str().or(token["content"].as_str());
            let by_text = text.and_then(|text| self.tokens.iter().position(|token| token == text));
            let number = &config[format!("{name}_token_id")];
            by_text.or_else(|| number.as_u64().or(number[0].as_u64())?.try_into().ok())
        };
        let known =
            |(name, key): (&str, &'static str)| Some((key, id(name).filter(|id| *id < self.tokens.len())? as u32));
        names.into_iter().filter_map(known).collect()
    }
}
