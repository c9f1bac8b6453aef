//! What the `tokenizers` crate takes for granted in the `model` of a `tokenizer.json`: it panics at a merge that is longer
//! than every token, and cuts halves of merges at the length of a prefix, wherever in a character that is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::TokenizerError;
use crate::error::bad;

/// Refuses a file that the crate would panic at; what else is wrong the crate finds itself.
pub(crate) fn check(bytes: &[u8]) -> Result<(), TokenizerError> {
    #[derive(serde::Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        vocab: Option<LongestToken>,
        merges: Option<LongestMerge>,
        continuing_subword_prefix: Option<String>,
    }
    let File { model } = serde_json::from_slice(bytes).map_err(|error| TokenizerError::Json(error.to_string()))?;
    let (LongestToken(token), LongestMerge(merge)) =
        (model.vocab.unwrap_or_default(), model.merges.unwrap_or_default());
    if merge > token {
        return Err(bad("model.merges", format!("make a token of {merge} bytes, the longest one has {token}")));
    }
    match model.continuing_subword_prefix {
        Some(prefix) if !prefix.is_empty() && merge > 0 => {
            Err(bad("model.continuing_subword_prefix", format!("is {prefix:?}, which is not supported with merges")))
        }
        _ => Ok(()),
    }
}

/// Bytes of the longest token. Vocabularies with scores (lists) have no merges.
#[derive(Default)]
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
#[derive(Default)]
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
