//! A tokenizer from a model file's own `tokenizer.ggml.*` metadata. It is as untrusted as the rest of the file: counts,
//! kinds, ids and sizes are checked before anything is built, and every error names its key.

use std::collections::HashSet;

use crate::byte_level::{self, Splitting};
use crate::sentence_piece::SentencePiece;
use crate::{GenerateError, GgufHeader, TextTokenizer, Value, chat};

pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(crate) const MERGES: &str = "tokenizer.ggml.merges";
pub(crate) const SCORES: &str = "tokenizer.ggml.scores";
pub(crate) const KINDS: &str = "tokenizer.ggml.token_type";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const BOS: &str = "tokenizer.ggml.bos_token_id";
/// Tokens that end a message, by the names that converters give them.
const ENDS: [&str; 3] = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
/// Four times the largest published vocabulary.
const MAX_TOKENS: usize = 1 << 20;
const MAX_MERGES: usize = 1 << 22;
/// Bytes of a token; the longest published ones are runs of 128 spaces, in two bytes each.
const MAX_TOKEN_BYTES: usize = 1024;

/// What a token is, by the numbers of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn from_number(number: i128) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// A token as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub text: &'a str,
    pub kind: Kind,
}

/// What a model file says of tokens at the ends of texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    /// Begins every text, where the tokenizer is used without a chat template.
    pub bos: Option<u32>,
    /// End a message.
    pub eos: Vec<u32>,
}

impl TextTokenizer {
    /// Builds the tokenizer that a model file describes: byte-level BPE (`gpt2`) or SentencePiece BPE (`llama`).
    ///
    /// # Errors
    ///
    /// [`GenerateError::NoTokenizer`] where the file describes none, else an error that names the key.
    pub fn from_gguf(gguf: &GgufHeader) -> Result<Self, GenerateError> {
        let tokenizer = match gguf.metadata(MODEL) {
            None => return Err(GenerateError::NoTokenizer),
            Some(Value::Text(model)) if model == "gpt2" => byte_level(gguf)?,
            Some(Value::Text(model)) if model == "llama" => sentence_piece(gguf)?,
            Some(Value::Text(model)) => {
                return Err(GenerateError::UnsupportedTokenizer {
                    key: MODEL,
                    value: model.chars().take(40).collect(),
                    supported: "gpt2, llama",
                });
            }
            Some(_) => return Err(bad(MODEL, "is not a text")),
        };
        tokenizer.with_ends(gguf)
    }

    /// Takes note of the tokens that the model file names as beginning and end.
    pub(crate) fn with_ends(mut self, gguf: &GgufHeader) -> Result<Self, GenerateError> {
        let id = |key| match gguf.metadata(key) {
            None => Ok(None),
            Some(Value::Integer(id)) if (0..self.len() as i128).contains(id) => Ok(Some(*id as u32)),
            Some(_) => Err(bad(key, format!("is not one of its {} tokens", self.len()))),
        };
        let mut ends = Ends::default();
        for key in ENDS {
            ends.eos.extend(id(key)?);
        }
        if flag(gguf, "tokenizer.ggml.add_bos_token", has_prefixes(gguf))? {
            ends.bos = id(BOS)?;
        }
        self.set_ends(ends);
        Ok(self)
    }
}

/// Whether a file that says nothing of it has its tokenizer begin texts with BOS and a space: SentencePiece ones do,
/// but Baichuan's (its report, section 2.2: no dummy prefix; its tokenizer_config.json: no BOS).
fn has_prefixes(gguf: &GgufHeader) -> bool {
    gguf.text(MODEL) == Ok("llama") && gguf.text("general.architecture") != Ok("baichuan")
}

fn byte_level(gguf: &GgufHeader) -> Result<TextTokenizer, GenerateError> {
    let splitting = splitting(gguf)?;
    let tokens = tokens(gguf)?;
    let merges = texts(gguf, MERGES, MAX_MERGES)?;
    Ok(TextTokenizer::from_library(byte_level::build(&tokens, &merges, splitting)?))
}

/// How text is cut into words. Files from before the key was invented say nothing or `default`: their family tells.
fn splitting(gguf: &GgufHeader) -> Result<Splitting, GenerateError> {
    let pre = match gguf.metadata(PRE) {
        None => "default",
        Some(Value::Text(pre)) => pre,
        Some(_) => return Err(bad(PRE, "is not a text")),
    };
    match (pre, gguf.text("general.architecture")) {
        ("qwen2", _) | ("default", Ok("qwen2" | "qwen3")) => Ok(Splitting::Qwen2),
        ("llama-bpe" | "llama3" | "llama-v3", _) | ("default", Ok("llama")) => Ok(Splitting::Llama3),
        ("gpt-2" | "default", _) => Ok(Splitting::Gpt2),
        (other, _) => Err(GenerateError::UnsupportedTokenizer {
            key: PRE,
            value: other.chars().take(40).collect(),
            supported: "qwen2, llama-bpe, gpt-2, default",
        }),
    }
}

fn sentence_piece(gguf: &GgufHeader) -> Result<TextTokenizer, GenerateError> {
    // Written only where they do something; ignoring them would give other tokens than the model was trained on.
    for key in ["tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.remove_extra_whitespaces"] {
        let is_off = matches!(gguf.metadata(key), None | Some(Value::Integer(0)))
            || matches!(gguf.metadata(key), Some(Value::Array(bytes)) if bytes.is_empty());
        if !is_off {
            return Err(bad(key, "asks for a normalization that is not supported"));
        }
    }
    let tokens = tokens(gguf)?;
    let scores = array(gguf, SCORES, MAX_TOKENS)?;
    same_count(SCORES, scores.len(), tokens.len())?;
    let score = |value: &Value| match value {
        Value::Float(score) if score.is_finite() => Ok(*score as f32),
        _ => Err(bad(SCORES, "has an element that is not a finite number")),
    };
    let scores = scores.iter().map(score).collect::<Result<Vec<_>, _>>()?;
    let space = flag(gguf, "tokenizer.ggml.add_space_prefix", has_prefixes(gguf))?;
    Ok(TextTokenizer::from_sentence_piece(SentencePiece::new(&tokens, scores, space)?))
}

/// All tokens with their kinds. No two have the same text.
fn tokens<'a>(gguf: &'a GgufHeader) -> Result<Vec<Token<'a>>, GenerateError> {
    let names = texts(gguf, TOKENS, MAX_TOKENS)?;
    if names.is_empty() {
        return Err(bad(TOKENS, "is empty"));
    }
    let kinds = array(gguf, KINDS, MAX_TOKENS)?;
    same_count(KINDS, kinds.len(), names.len())?;
    let mut known = HashSet::new();
    let mut tokens = Vec::with_capacity(names.len());
    for (id, (text, kind)) in names.into_iter().zip(kinds).enumerate() {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(bad(TOKENS, format!("has a token ({id}) of {} bytes, at most {MAX_TOKEN_BYTES}", text.len())));
        }
        if !known.insert(text) {
            return Err(bad(TOKENS, format!("has the token {text:?} twice, again at {id}")));
        }
        let kind = match kind {
            Value::Integer(number) => Kind::from_number(*number),
            _ => None,
        };
        let kind = kind.ok_or_else(|| bad(KINDS, format!("gives token {id} a type that is not 1 to 6")))?;
        // Some files declare the marks of their own chat template as text that a user may write.
        let kind = if kind == Kind::UserDefined && chat::is_mark(text) { Kind::Control } else { kind };
        tokens.push(Token { text, kind });
    }
    Ok(tokens)
}

fn array<'a>(gguf: &'a GgufHeader, key: &'static str, most: usize) -> Result<&'a [Value], GenerateError> {
    match gguf.metadata(key) {
        Some(Value::Array(values)) if values.len() <= most => Ok(values),
        Some(Value::Array(values)) => Err(bad(key, format!("has {} elements, at most {most} are sane", values.len()))),
        Some(_) => Err(bad(key, "is not an array")),
        None => Err(bad(key, "is missing")),
    }
}

fn texts<'a>(gguf: &'a GgufHeader, key: &'static str, most: usize) -> Result<Vec<&'a str>, GenerateError> {
    let text = |value: &'a Value| match value {
        Value::Text(text) => Ok(text.as_str()),
        _ => Err(bad(key, "has an element that is not a text")),
    };
    array(gguf, key, most)?.iter().map(text).collect()
}

fn flag(gguf: &GgufHeader, key: &'static str, default: bool) -> Result<bool, GenerateError> {
    match gguf.metadata(key) {
        None => Ok(default),
        Some(Value::Integer(flag @ 0..=1)) => Ok(*flag == 1),
        Some(_) => Err(bad(key, "is neither true nor false")),
    }
}

fn same_count(key: &'static str, found: usize, expected: usize) -> Result<(), GenerateError> {
    match found == expected {
        true => Ok(()),
        false => Err(bad(key, format!("has {found} elements for {expected} tokens"))),
    }
}

/// A damaged field.
pub(crate) fn bad(key: &'static str, reason: impl Into<String>) -> GenerateError {
    GenerateError::TokenizerMetadata { key, reason: reason.into() }
}
