//! A checkpoint's tokenizer as GGUF metadata.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::sentencepiece::SentencePieceModel;
use super::{CheckpointFiles, ConvertError};
use crate::{Family, MetadataValue};

/// Types of tokens in GGUF.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// Score of a token that no merge makes, as llama.cpp's converter writes it.
const NO_SCORE: f32 = -10_000.0;

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

/// Tokens that ChatGLM2 and 3 add in code behind those of their SentencePiece model, in this order.
const CHATGLM_TOKENS: [&str; 9] =
    ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// Tokens by id.
struct Vocabulary {
    model: &'static str,
    pre: Option<&'static str>,
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Option<Vec<f32>>,
    merges: Option<Vec<String>>,
    space_prefix: Option<bool>,
    extra_whitespaces: Option<bool>,
    add_bos: Option<bool>,
}

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

#[derive(Deserialize)]
struct AddedToken {
    #[serde(default)]
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

/// GGUF's `tokenizer.*` keys for a network of `rows` tokens.
pub fn metadata(
    files: &CheckpointFiles<'_>,
    family: Family,
    rows: usize,
) -> Result<Vec<(String, MetadataValue)>, ConvertError> {
    let settings = json(files, "tokenizer_config.json")?;
    let mut vocabulary = match (files.get("tokenizer.model"), files.get("tokenizer.json")) {
        (Some(model), _) => from_sentencepiece(SentencePieceModel::parse(model)?, family, rows)?,
        (None, Some(bytes)) => from_tokenizer_json(bytes, rows)?,
        (None, None) => return Err(ConvertError::MissingFile("tokenizer.json or tokenizer.model")),
    };
    vocabulary.add_tokens(added_tokens(files, &settings)?)?;
    let mut keys = Vec::new();
    let mut add = |key: &str, value| keys.push((format!("tokenizer.{key}"), value));
    add("ggml.model", MetadataValue::Text(vocabulary.model.to_owned()));
    if let Some(pre) = vocabulary.pre {
        add("ggml.pre", MetadataValue::Text(pre.to_owned()));
    }
    for (key, id) in vocabulary.special_ids(&settings, &json(files, "config.json")?) {
        add(&format!("ggml.{key}_token_id"), MetadataValue::Unsigned(id));
    }
    let bos = if family == Family::ChatGlm { Some(false) } else { settings["add_bos_token"].as_bool() };
    let flags = [
        ("add_bos_token", bos.or(vocabulary.add_bos)),
        ("add_eos_token", settings["add_eos_token"].as_bool()),
        ("add_space_prefix", vocabulary.space_prefix),
        ("remove_extra_whitespaces", vocabulary.extra_whitespaces),
    ];
    for (key, flag) in flags {
        if let Some(flag) = flag {
            add(&format!("ggml.{key}"), MetadataValue::Bool(flag));
        }
    }
    if let Some(template) = chat_template(files, &settings)? {
        add("chat_template", MetadataValue::Text(template));
    }
    add("ggml.tokens", MetadataValue::Texts(vocabulary.tokens));
    add("ggml.token_type", MetadataValue::Integers(vocabulary.types));
    if let Some(scores) = vocabulary.scores {
        add("ggml.scores", MetadataValue::Floats(scores));
    }
    if let Some(merges) = vocabulary.merges {
        add("ggml.merges", MetadataValue::Texts(merges));
    }
    Ok(keys)
}

fn json(files: &CheckpointFiles<'_>, file: &'static str) -> Result<Value, ConvertError> {
    let Some(bytes) = files.get(file) else { return Ok(Value::Null) };
    serde_json::from_slice(bytes).map_err(|error| ConvertError::BadFile { file, reason: error.to_string() })
}

fn from_sentencepiece(model: SentencePieceModel, family: Family, rows: usize) -> Result<Vocabulary, ConvertError> {
    let mut vocabulary = Vocabulary::padded("llama", rows);
    let mut scores = vec![NO_SCORE; rows];
    let pieces = model.pieces.len();
    vocabulary.fits(pieces.saturating_sub(1) as u64)?;
    for (id, piece) in model.pieces.into_iter().enumerate() {
        (vocabulary.tokens[id], vocabulary.types[id], scores[id]) = (piece.text, piece.kind, piece.score);
    }
    vocabulary.scores = Some(scores);
    vocabulary.space_prefix = Some(model.add_dummy_prefix);
    vocabulary.extra_whitespaces = Some(model.remove_extra_whitespaces);
    if family == Family::ChatGlm {
        vocabulary.pre = Some("chatglm-spm");
        let added = CHATGLM_TOKENS.iter().zip(pieces as u64..).filter(|(_, id)| *id < rows as u64);
        let token = |(text, id): (&&str, u64)| AddedToken { id, content: (*text).to_owned(), special: true };
        vocabulary.add_tokens(added.map(token).collect())?;
    }
    Ok(vocabulary)
}

fn from_tokenizer_json(bytes: &[u8], rows: usize) -> Result<Vocabulary, ConvertError> {
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

/// Tokens that files beside the tokenizer add to it.
fn added_tokens(files: &CheckpointFiles<'_>, settings: &Value) -> Result<Vec<AddedToken>, ConvertError> {
    let mut added = Vec::new();
    if let Value::Object(tokens) = json(files, "added_tokens.json")? {
        let ids = tokens.into_iter().filter_map(|(content, id)| Some((content, id.as_u64()?)));
        added.extend(ids.map(|(content, id)| AddedToken { id, content, special: false }));
    }
    for (id, token) in settings["added_tokens_decoder"].as_object().into_iter().flatten() {
        let bad = |reason: String| ConvertError::BadFile { file: "tokenizer_config.json", reason };
        let id = id.parse().map_err(|_| bad(format!("`{id}` is no token id")))?;
        let token = AddedToken::deserialize(token).map_err(|error| bad(error.to_string()))?;
        added.push(AddedToken { id, ..token });
    }
    Ok(added)
}

/// The chat template, whichever file holds it.
fn chat_template(files: &CheckpointFiles<'_>, settings: &Value) -> Result<Option<String>, ConvertError> {
    if let Some(bytes) = files.get("chat_template.jinja") {
        let text = std::str::from_utf8(bytes);
        let bad = |_| ConvertError::BadFile { file: "chat_template.jinja", reason: "it is not UTF-8".to_owned() };
        return Ok(Some(text.map_err(bad)?.to_owned()));
    }
    let template = &settings["chat_template"];
    let named = template.as_array().into_iter().flatten().find(|entry| entry["name"] == "default");
    Ok(template.as_str().or_else(|| named?["template"].as_str()).map(str::to_owned))
}

impl Vocabulary {
    /// Nothing but placeholders, one for each row of the embedding.
    fn padded(model: &'static str, rows: usize) -> Self {
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

    fn fits(&self, id: u64) -> Result<(), ConvertError> {
        let rows = self.tokens.len();
        if id < rows as u64 {
            return Ok(());
        }
        Err(ConvertError::UnsupportedTokenizer(format!("it has the token {id}, the model only {rows} rows")))
    }

    fn add_tokens(&mut self, added: Vec<AddedToken>) -> Result<(), ConvertError> {
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
    fn special_ids(&self, settings: &Value, config: &Value) -> Vec<(&'static str, u32)> {
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
