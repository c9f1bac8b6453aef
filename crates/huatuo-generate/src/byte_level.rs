//! Byte-level BPE (Qwen, Llama 3) from a vocabulary and its merges, on the `tokenizers` crate.

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::GenerateError;
use crate::gguf_tokenizer::{Kind, MERGES, TOKENS, Token, bad};

/// Stands before the names of tokens that no text may become. It is not in the alphabet of byte-level text, so neither
/// a merge nor a whole word can hit such a name.
pub(crate) const HIDDEN: char = '\0';

/// How text is cut into words before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Splitting {
    /// Digits one by one, after NFC (Qwen2's tokenizer.json).
    Qwen2,
    /// Digits in threes; a word that is a token needs no merge (Llama 3's tokenizer.json).
    Llama3,
    /// GPT-2's.
    Gpt2,
}

impl Splitting {
    fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Qwen2 => Some(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            Self::Llama3 => Some(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            Self::Gpt2 => None, // the library's byte level has it built in
        }
    }
}

/// Builds the tokenizer.
pub(crate) fn build(tokens: &[Token<'_>], merges: &[&str], splitting: Splitting) -> Result<Tokenizer, GenerateError> {
    let mut vocabulary = Vocab::default();
    let mut text_tokens = HashMap::new();
    let mut added = Vec::new();
    for (id, token) in (0..).zip(tokens) {
        let is_text = matches!(token.kind, Kind::Normal | Kind::Byte | Kind::UserDefined);
        let name = if is_text { token.text.to_owned() } else { format!("{HIDDEN}{}", token.text) };
        if is_text {
            text_tokens.insert(token.text, id);
        }
        if !is_text {
            added.push(AddedToken::from(name.as_str(), true));
        } else if token.kind == Kind::UserDefined {
            added.push(AddedToken::from(name.as_str(), false).normalized(false));
        }
        if vocabulary.insert(name, id).is_some() {
            return Err(bad(TOKENS, format!("has the token {:?} twice", token.text)));
        }
    }
    if let Some(symbol) = ByteLevel::alphabet().iter().find(|c| !text_tokens.contains_key(c.to_string().as_str())) {
        return Err(bad(TOKENS, format!("lacks the byte {symbol:?}: some texts would lose characters")));
    }
    let library = |error: tokenizers::Error| GenerateError::Tokenizer(error.to_string());
    let model = BPE::builder()
        .cache_capacity(0) // it would keep parts of patients' questions
        .vocab_and_merges(vocabulary, checked_merges(merges, &text_tokens)?)
        .ignore_merges(splitting == Splitting::Llama3)
        .build()
        .map_err(library)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer((splitting == Splitting::Qwen2).then_some(NFC)).map_err(library)?;
    tokenizer.with_pre_tokenizer(Some(match splitting.pattern() {
        None => PreTokenizerWrapper::from(ByteLevel::new(false, true, true)),
        Some(pattern) => {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(library)?;
            Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
    }));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.set_encode_special_tokens(true); // what a user writes stays text
    tokenizer.add_tokens(added).map_err(library)?;
    Ok(tokenizer)
}

/// Merges as pairs. Halves and wholes are tokens, so each merge makes a longer one and none can go in a circle.
fn checked_merges(merges: &[&str], tokens: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, GenerateError> {
    let mut known = HashSet::new();
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ').filter(|(l, r)| !l.is_empty() && !r.is_empty()) else {
            return Err(bad(MERGES, format!("has at {rank} {merge:?}, which is no pair")));
        };
        for part in [left, right, &format!("{left}{right}")] {
            if !tokens.contains_key(part) {
                return Err(bad(MERGES, format!("has at {rank} {merge:?}, but {part:?} is no token of text")));
            }
        }
        if !known.insert((left, right)) {
            return Err(bad(MERGES, format!("has {merge:?} twice, again at {rank}")));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}
