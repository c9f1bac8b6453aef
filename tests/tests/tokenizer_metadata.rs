//! A tokenizer in a model file is untrusted: whatever is wrong with it is an error that names the key.

use std::collections::BTreeMap;

use huatuo_generate::{GenerateError, Gguf, TextTokenizer};
use huatuo_tests::{Entry, gguf, root};

type Metadata = BTreeMap<String, Entry>;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

fn metadata(model: &str, tokens: Vec<String>, kinds: Vec<i32>) -> Metadata {
    BTreeMap::from([
        ("general.architecture".to_owned(), Entry::Text("llama".to_owned())),
        ("tokenizer.ggml.model".to_owned(), Entry::Text(model.to_owned())),
        (TOKENS.to_owned(), Entry::Texts(tokens)),
        (KINDS.to_owned(), Entry::Numbers(kinds)),
    ])
}

/// `<unk>`, `</s>`, 256 bytes, `a`, `b`, `ab`.
fn sentence_piece() -> Metadata {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens =
        ["<unk>", "</s>"].map(str::to_owned).into_iter().chain(bytes).chain(["a", "b", "ab"].map(str::to_owned));
    let kinds = [vec![2, 3], vec![6; 256], vec![1; 3]].concat();
    let mut metadata = metadata("llama", tokens.collect(), kinds);
    metadata.insert(SCORES.to_owned(), Entry::Floats((0..261).map(|i| -(i as f32)).collect()));
    metadata
}

/// The 256 characters of byte-level text, `ab`, `<|im_end|>`.
fn byte_level() -> Metadata {
    let is_itself = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let characters = (0..256).filter(is_itself).chain(256..324).map(|c| char::from_u32(c).unwrap().to_string());
    let tokens = characters.chain(["ab", "<|im_end|>"].map(str::to_owned)).collect();
    let mut metadata = metadata("gpt2", tokens, [vec![1; 257], vec![3]].concat());
    metadata.insert("tokenizer.ggml.pre".to_owned(), Entry::Text("qwen2".to_owned()));
    metadata.insert(MERGES.to_owned(), Entry::Texts(vec!["a b".to_owned()]));
    metadata
}

fn load(metadata: &Metadata) -> Result<TextTokenizer, GenerateError> {
    TextTokenizer::from_gguf(&Gguf::parse(&gguf(metadata)).unwrap())
}

/// That the metadata with one entry replaced is refused, and the error names the key.
fn refuses(metadata: &Metadata, key: &str, entry: Option<Entry>, named: &str) {
    let mut metadata = metadata.clone();
    match entry.clone() {
        Some(entry) => metadata.insert(key.to_owned(), entry),
        None => metadata.remove(key),
    };
    match load(&metadata) {
        Err(
            error @ (GenerateError::TokenizerMetadata { key, .. } | GenerateError::UnsupportedTokenizer { key, .. }),
        ) => assert!(key == named && error.to_string().contains(named), "{error}"),
        Err(other) => panic!("{key} {entry:?}: {other}"),
        Ok(_) => panic!("{key} {entry:?} is accepted"),
    }
}

fn texts(metadata: &Metadata, key: &str) -> Vec<String> {
    match &metadata[key] {
        Entry::Texts(texts) => texts.clone(),
        _ => unreachable!(),
    }
}

#[test]
fn the_sound_ones_are_accepted() {
    let tokenizer = load(&sentence_piece()).unwrap();
    assert_eq!(tokenizer.encode("abb").unwrap(), [228, 152, 131, 260, 259]); // the space in front is three bytes
    let tokenizer = load(&byte_level()).unwrap();
    assert_eq!(tokenizer.encode("abb").unwrap(), [256, 65]);
}

#[test]
fn no_tokenizer_at_all_is_said_so() {
    for mut metadata in [sentence_piece(), byte_level()] {
        metadata.remove("tokenizer.ggml.model");
        let error = load(&metadata).err().unwrap();
        assert!(matches!(error, GenerateError::NoTokenizer));
        assert!(error.to_string().contains("tokenizer.json"));
    }
}

#[test]
fn a_kind_that_is_not_known_is_refused() {
    let other = |text: &str| Some(Entry::Text(text.to_owned()));
    refuses(&byte_level(), "tokenizer.ggml.model", other("bert"), "tokenizer.ggml.model");
    refuses(&byte_level(), "tokenizer.ggml.model", Some(Entry::Number(1)), "tokenizer.ggml.model");
    refuses(&byte_level(), "tokenizer.ggml.pre", other("chatglm-bpe"), "tokenizer.ggml.pre");
    refuses(&byte_level(), "tokenizer.ggml.pre", Some(Entry::Flag(true)), "tokenizer.ggml.pre");
    for key in ["tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.remove_extra_whitespaces"] {
        refuses(&sentence_piece(), key, Some(Entry::Flag(true)), key);
    }
}

#[test]
fn missing_arrays_and_arrays_of_another_type_are_refused() {
    for key in [TOKENS, KINDS, SCORES] {
        refuses(&sentence_piece(), key, None, key);
        refuses(&sentence_piece(), key, Some(Entry::Number(3)), key);
        refuses(&sentence_piece(), key, Some(Entry::Texts(vec![])), key);
    }
    for key in [TOKENS, KINDS, MERGES] {
        refuses(&byte_level(), key, None, key);
        let named = if key == KINDS { KINDS } else { key };
        refuses(&byte_level(), key, Some(Entry::Floats(vec![1.0; 258])), named);
    }
}

#[test]
fn counts_that_differ_are_refused() {
    refuses(&sentence_piece(), KINDS, Some(Entry::Numbers(vec![1; 260])), KINDS);
    refuses(&sentence_piece(), SCORES, Some(Entry::Floats(vec![0.0; 262])), SCORES);
    refuses(&byte_level(), KINDS, Some(Entry::Numbers(vec![1; 2])), KINDS);
}

#[test]
fn tokens_that_stand_twice_are_refused() {
    for metadata in [sentence_piece(), byte_level()] {
        let mut tokens = texts(&metadata, TOKENS);
        tokens[200] = tokens[100].clone();
        refuses(&metadata, TOKENS, Some(Entry::Texts(tokens)), TOKENS);
    }
}

#[test]
fn absurd_sizes_are_refused() {
    for metadata in [sentence_piece(), byte_level()] {
        let mut tokens = texts(&metadata, TOKENS);
        tokens[257] = "x".repeat(1025);
        refuses(&metadata, TOKENS, Some(Entry::Texts(tokens)), TOKENS);
        let many = Entry::Texts(vec![String::new(); (1 << 20) + 1]);
        refuses(&metadata, TOKENS, Some(many), TOKENS);
    }
}

#[test]
fn kinds_and_scores_that_mean_nothing_are_refused() {
    for metadata in [sentence_piece(), byte_level()] {
        let len = texts(&metadata, TOKENS).len();
        for kind in [0, 7, -1, i32::MIN] {
            refuses(&metadata, KINDS, Some(Entry::Numbers(vec![kind; len])), KINDS);
        }
    }
    for score in [f32::NAN, f32::INFINITY] {
        refuses(&sentence_piece(), SCORES, Some(Entry::Floats(vec![score; 261])), SCORES);
    }
}

#[test]
fn bytes_that_are_missing_or_no_bytes_are_refused() {
    let mut tokens = texts(&sentence_piece(), TOKENS);
    tokens[77] = "<0xGG>".to_owned();
    refuses(&sentence_piece(), TOKENS, Some(Entry::Texts(tokens)), TOKENS);
    refuses(&sentence_piece(), KINDS, Some(Entry::Numbers([vec![2, 3], vec![6; 255], vec![1; 4]].concat())), KINDS);
    refuses(&sentence_piece(), KINDS, Some(Entry::Numbers(vec![1; 261])), KINDS);
    let mut tokens = texts(&byte_level(), TOKENS);
    tokens[65] = "no byte".to_owned();
    refuses(&byte_level(), TOKENS, Some(Entry::Texts(tokens)), TOKENS);
}

#[test]
fn merges_that_lead_nowhere_or_back_are_refused() {
    for merges in [
        &["a"][..],
        &["a b c"],
        &["a "],
        &[" a"],
        &[" "],
        &["a c"],           // makes no token
        &["x yz"],          // of no token
        &["ab <|im_end|>"], // of a token that no text becomes
        &["a b", "a b"],    // twice
        &["ab ab", "a b"],  // longer than every token
    ] {
        let merges = merges.iter().map(ToString::to_string).collect();
        refuses(&byte_level(), MERGES, Some(Entry::Texts(merges)), MERGES);
    }
}

#[test]
fn ids_out_of_range_are_refused() {
    for metadata in [sentence_piece(), byte_level()] {
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            refuses(&metadata, key, Some(Entry::Number(100_000)), key);
            refuses(&metadata, key, Some(Entry::Text("2".to_owned())), key);
        }
        let mut asks_for_bos = metadata.clone();
        asks_for_bos.insert("tokenizer.ggml.add_bos_token".to_owned(), Entry::Flag(true));
        let key = "tokenizer.ggml.bos_token_id";
        refuses(&asks_for_bos, key, Some(Entry::Number(u32::MAX)), key);
        let key = "tokenizer.ggml.add_bos_token";
        refuses(&metadata, key, Some(Entry::Number(2)), key);
    }
}

#[test]
fn no_damage_to_a_real_tokenizer_panics() {
    for name in ["chatglm3", "qwen3"] {
        let mut bytes = std::fs::read(root().join(format!("tests/golden/tokenizers/{name}.gguf"))).unwrap();
        let mut random = 1u64;
        for _ in 0..150 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bytes.len();
            let before = std::mem::replace(&mut bytes[at], (random >> 20) as u8);
            if let Ok(gguf) = Gguf::parse(&bytes)
                && let Ok(tokenizer) = TextTokenizer::from_gguf(&gguf)
            {
                let ids = tokenizer.encode("血压160/95 <|im_end|>\n").unwrap();
                assert!(ids.iter().all(|id| (*id as usize) < tokenizer.len()));
            }
            bytes[at] = before;
        }
    }
}

#[test]
fn a_tokenizer_json_with_merges_of_no_tokens_is_an_error() {
    let json = |merges: &str, prefix: &str| {
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"decoder":null,"model":{{"type":"BPE","dropout":null,"unk_token":null,
            "continuing_subword_prefix":{prefix},"end_of_word_suffix":null,"fuse_unk":false,
            "vocab":{{"aa":0,"bb":1}},"merges":{merges}}}}}"#
        )
    };
    for (merges, prefix) in [(r#"[["aa","bb"]]"#, "null"), (r#"["aa bb"]"#, "null"), (r#"[["aa","bb"]]"#, r#""xxxx""#)]
    {
        assert!(TextTokenizer::from_json(json(merges, prefix).as_bytes()).is_err(), "{merges} {prefix}");
    }
}
