//! Reading `tokenizer.json`, the file of the `tokenizers` library.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ConvertError;
use super::vocabulary::{AddedToken, BYTE, NORMAL, UNKNOWN, Vocabulary};

/// Splitting expressions of byte-level tokenizers, with llama.cpp's names for them.
const SPLITS: [(&str, &str); 2] = [
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "llama-bpe",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

#[derive(Deserialize)]
struct TokenizerJson {
    model: BpeModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct BpeModel {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    unk_token: Option<String>,
    vocab: BTreeMap<String, u64>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

/// Reads `tokenizer.json`: byte-level BPE, or BPE that falls back to bytes.
pub(super) fn from_tokenizer_json(bytes: &[u8], rows: usize) -> Result<Vocabulary, ConvertError> {
    const FILE: &str = "tokenizer.json";
    let spec: TokenizerJson = serde_json::from_slice(bytes)
        .map_err(|error| ConvertError::BadFile { file: FILE, reason: error.to_string() })?;
    if let Some(kind) = spec.model.kind.filter(|kind| kind != "BPE") {
        return Err(ConvertError::UnsupportedTokenizer(format!("{FILE} is {kind}, not BPE")));
    }
    let mut vocabulary = Vocabulary::padded(if spec.model.byte_fallback { "llama" } else { "gpt2" }, rows);
    for (token, id) in spec.model.vocab {
        vocabulary.fits(id)?;
        vocabulary.types[id as usize] = NORMAL;
        vocabulary.tokens[id as usize] = token;
    }
    let starts_with_special = spec.post_processor["single"][0]["SpecialToken"].is_object()
        || spec.post_processor["processors"][1]["single"][0]["SpecialToken"].is_object();
    vocabulary.add_bos = starts_with_special.then_some(true);
    if spec.model.byte_fallback {
        for (token, kind) in vocabulary.tokens.iter().zip(&mut vocabulary.types) {
            if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
                *kind = BYTE;
            } else if Some(token) == spec.model.unk_token.as_ref() {
                *kind = UNKNOWN;
            }
        }
        // Ids of these tokenizers stand in the order of merging.
        vocabulary.scores = Some((0..rows).map(|id| -(id as f32)).collect());
        let prefix = |value: &Value| value.to_string().contains("\"Prepend\"") || value["prepend_scheme"] == "first";
        vocabulary.space_prefix = Some(prefix(&spec.normalizer) || prefix(&spec.pre_tokenizer));
    } else {
        let is_byte_level = |value: &Value| value.to_string().contains("\"ByteLevel\"");
        if !is_byte_level(&spec.pre_tokenizer) && !is_byte_level(&spec.decoder) {
            return Err(ConvertError::UnsupportedTokenizer(format!(
                "{FILE} is neither byte-level nor falls back to bytes"
            )));
        }
        vocabulary.pre = Some(split_name(&spec.pre_tokenizer)?);
        let text = |merge| match merge {
            Merge::Text(text) => text,
            Merge::Pair(left, right) => format!("{left} {right}"),
        };
        vocabulary.merges = Some(spec.model.merges.into_iter().map(text).collect());
    }
    vocabulary.add_tokens(spec.added_tokens)?;
    Ok(vocabulary)
}

/// llama.cpp's name for the way a tokenizer splits texts.
fn split_name(pre_tokenizer: &Value) -> Result<&'static str, ConvertError> {
    let steps = pre_tokenizer["pretokenizers"].as_array().into_iter().flatten();
    let mut expressions = steps.filter_map(|step| step["pattern"]["Regex"].as_str());
    let Some(expression) = expressions.next() else { return Ok("gpt-2") };
    let known = SPLITS.iter().find(|(_, known)| *known == expression);
    known.map(|(name, _)| *name).ok_or_else(|| {
        ConvertError::UnsupportedTokenizer(format!("tokenizer.json splits by the unknown expression {expression}"))
    })
}
