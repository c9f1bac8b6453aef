//! A checkpoint's tokenizer as GGUF metadata.

use serde::Deserialize;
use serde_json::Value;

use super::sentencepiece::SentencePieceModel;
use super::tokenizer_json::from_tokenizer_json;
use super::vocabulary::{AddedToken, Vocabulary};
use super::{CheckpointFiles, ConvertError};
use crate::{Family, MetadataValue};

/// Score of a token that no merge makes, as llama.cpp's converter writes it.
const NO_SCORE: f32 = -10_000.0;

/// Tokens that ChatGLM2 and 3 add in code behind those of their SentencePiece model, in this order.
const CHATGLM_TOKENS: [&str; 9] =
    ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

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
