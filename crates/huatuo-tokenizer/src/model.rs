//! What the `tokenizers` crate takes for granted in the `model` of a `tokenizer.json`: it panics at a merge that is
//! longer than every token, and cuts halves of merges at the length of a prefix, wherever in a character that is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::TokenizerError;
use crate::error::bad;

/// Characters of a word that WordPiece looks at; the time it takes grows with their cube. Published files have 100.
const MAX_WORD: u64 = 1000;

/// What is checked of a model.
#[derive(Deserialize)]
pub(crate) struct Model {
    vocab: Option<LongestToken>,
    merges: Option<LongestMerge>,
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<u64>,
}

impl Model {
    /// Refuses a model that the crate would panic at or spend minutes on.
    pub fn check(&self) -> Result<(), TokenizerError> {
        let token = self.vocab.as_ref().map_or(0, |longest| longest.0);
        let merge = self.merges.as_ref().map_or(0, |longest| longest.0);
        if merge > token {
            let reason = format!("make a token of {merge} bytes, the longest one has {token}");
            return Err(bad("model.merges", reason));
        }
        if let Some(most) = self.max_input_chars_per_word.filter(|most| *most > MAX_WORD) {
            return Err(bad("model.max_input_chars_per_word", format!("is {most}, at most {MAX_WORD} is supported")));
        }
        match &self.continuing_subword_prefix {
            Some(prefix) if !prefix.is_empty() && merge > 0 => {
                let reason = format!("is {prefix:?}, which is not supported with merges");
                Err(bad("model.continuing_subword_prefix", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of the longest token. Vocabularies with scores (lists) have no merges.
struct LongestToken(usize);

impl<'de> Deserialize<'de> for LongestToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenVisitor)
    }
}

struct TokenVisitor;

impl<'de> Visitor<'de> for TokenVisitor {
    type Value = LongestToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LongestToken, A::Error> {
        let mut longest = 0;
        while let Some((token, _)) = map.next_entry::<Cow<'de, str>, IgnoredAny>()? {
            longest = longest.max(token.len());
        }
        Ok(LongestToken(longest))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LongestToken, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LongestToken(0))
    }
}

/// Bytes of the longest token that a merge makes.
struct LongestMerge(usize);

impl<'de> Deserialize<'de> for LongestMerge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MergesVisitor)
    }
}

struct MergesVisitor;

impl<'de> Visitor<'de> for MergesVisitor {
    type Value = LongestMerge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<LongestMerge, A::Error> {
        let mut longest = 0;
        while let Some(Merge(bytes)) = list.next_element()? {
            longest = longest.max(bytes);
        }
        Ok(LongestMerge(longest))
    }
}

/// Bytes of the token that one merge makes.
struct Merge(usize);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge: `left right`, or the two in a list")
    }

    fn visit_str<E>(self, pair: &str) -> Result<Merge, E> {
        Ok(Merge(pair.len().saturating_sub(1))) // without the space between
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
        let mut bytes = 0;
        while let Some(half) = list.next_element::<Cow<'de, str>>()? {
            bytes += half.len();
        }
        Ok(Merge(bytes))
    }
}
