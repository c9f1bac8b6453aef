//! Tokenizers built from GGUF metadata give the tokens of each family's own implementation: sentencepiece for Llama 2,
//! Baichuan, ChatGLM and Ziya, transformers for Qwen and Llama 3.
//! Golden files: `python3 tests/golden/tokenizers.py` trains the small tokenizers and writes what those give.

use std::collections::HashMap;

use huatuo_compute::Cpu;
use huatuo_core::{Conversation, PromptForm};
use huatuo_generate::{Gguf, LocalGenerator, NeverPause, TextTokenizer, TokenStream};
use huatuo_tests::root;
use serde::Deserialize;

const CASES: [&str; 8] = ["llama2", "baichuan2", "chatglm3", "ziya", "no-bytes", "qwen2", "qwen3", "llama3"];

#[derive(Deserialize)]
struct Golden {
    /// Metadata-only file, from the repository's root.
    model: String,
    /// Tokens of each line.
    ids: Vec<Vec<u32>>,
    /// What the lines that don't come back as they were come back as.
    decoded: HashMap<usize, String>,
    /// Random tokens and their text.
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    ids: Vec<u32>,
    text: String,
}

fn lines() -> Vec<String> {
    serde_json::from_slice(&std::fs::read(root().join("tests/golden/tokenizers/lines.json")).unwrap()).unwrap()
}

fn golden(name: &str) -> (Golden, TextTokenizer) {
    let file = std::fs::read(root().join(format!("tests/golden/tokenizers/{name}.json"))).unwrap();
    let golden: Golden = serde_json::from_slice(&file).unwrap();
    let bytes = std::fs::read(root().join(&golden.model)).unwrap();
    let tokenizer = TextTokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
    (golden, tokenizer)
}

fn decode(tokenizer: &TextTokenizer, ids: &[u32]) -> String {
    let mut stream = TokenStream::default();
    ids.iter().filter_map(|id| tokenizer.step(&mut stream, *id).unwrap()).collect()
}

#[test]
fn every_line_becomes_the_tokens_of_the_familys_own_implementation() {
    let lines = lines();
    assert!(lines.len() > 300);
    for name in CASES {
        let (golden, tokenizer) = golden(name);
        for (line, ids) in lines.iter().zip(&golden.ids) {
            assert_eq!(&tokenizer.encode(line).unwrap(), ids, "{name}: {line:?}");
        }
    }
}

#[test]
fn tokens_become_the_text_that_the_familys_own_implementation_makes_of_them() {
    let lines = lines();
    for name in CASES.into_iter().filter(|name| *name != "no-bytes") {
        let (golden, tokenizer) = golden(name);
        for (i, (line, ids)) in lines.iter().zip(&golden.ids).enumerate() {
            assert_eq!(&decode(&tokenizer, ids), golden.decoded.get(&i).unwrap_or(line), "{name}");
        }
    }
}

#[test]
fn any_tokens_become_whole_characters_and_an_unfinished_one_is_held_back() {
    for name in CASES {
        let (golden, tokenizer) = golden(name);
        for stream in &golden.streams {
            let shown = decode(&tokenizer, &stream.ids);
            let rest = stream.text.strip_prefix(&shown).unwrap_or_else(|| panic!("{name}: {shown} / {}", stream.text));
            assert!(rest.chars().all(|c| c == char::REPLACEMENT_CHARACTER), "{name}: {rest:?} is missing");
        }
    }
}

#[test]
fn the_default_models_own_tokenizer_is_its_tokenizer_json() {
    let read = |name: &str| std::fs::read(root().join("models/generator").join(name)).unwrap();
    let (model, json) = (read("model.gguf"), read("tokenizer.json"));
    let own = TextTokenizer::from_gguf(&Gguf::parse(&model).unwrap()).unwrap();
    let json = TextTokenizer::from_json(&json).unwrap();
    assert_eq!(own.len(), json.len());
    assert_eq!(own.mark("<|im_end|>").unwrap(), json.mark("<|im_end|>").unwrap());
    // It was trained without Qwen2's NFC, so only on text that has nothing to compose.
    let is_composed = |line: &String| {
        line.chars().all(|c| matches!(c, '\0'..='\u{ff}' | '\u{3000}'..='\u{9fff}' | '\u{ff00}'..='\u{ffef}'))
    };
    let lines: Vec<_> = lines().into_iter().filter(is_composed).collect();
    assert!(lines.len() > 150);
    for line in lines {
        assert_eq!(own.encode(&line).unwrap(), json.encode(&line).unwrap(), "{line:?}");
    }
    assert!((0..own.len() as u32).all(|id| own.raw_token(id) == json.raw_token(id)));
}

#[test]
fn a_generator_loads_without_a_tokenizer_json() {
    let read = |name: &str| std::fs::read(root().join("models/generator").join(name)).unwrap();
    let (model, json) = (read("model.gguf"), read("tokenizer.json"));
    let prompt = PromptForm::OneMessage.prompt(("", "高血压怎么办<|im_end|>"), &Conversation::default(), &[], &[]);
    let ids = |tokenizer| {
        let generator = LocalGenerator::load(Cpu::new(), &model, tokenizer, NeverPause).unwrap();
        generator.encode_prompt(&prompt.messages).unwrap()
    };
    assert_eq!(ids(None), ids(Some(&json)));
}

#[test]
fn a_long_run_of_one_character_is_no_trouble() {
    for name in CASES {
        let (_, tokenizer) = golden(name);
        for c in [" ", "\n", "a", "啊", "😷", "\t "] {
            let text = c.repeat(20_000);
            let ids = tokenizer.encode(&text).unwrap();
            if name != "no-bytes" {
                assert_eq!(decode(&tokenizer, &ids), text, "{name}: {c:?}");
            }
        }
    }
}

#[test]
fn a_mark_shows_nothing_and_is_never_written_by_text() {
    let marks = [
        "<s>",
        "</s>",
        "<|im_start|>",
        "<|im_end|>",
        "<|eot_id|>",
        "[gMASK]",
        "sop",
        "<|user|>",
        "<reserved_106>",
        "<bot>",
    ];
    for name in CASES {
        let (_, tokenizer) = golden(name);
        let ids: Vec<u32> = marks.iter().filter_map(|mark| tokenizer.mark(mark).ok()).collect();
        assert!(!ids.is_empty(), "{name}");
        assert_eq!(decode(&tokenizer, &ids), "", "{name}");
        for mark in marks {
            for text in [mark.to_owned(), format!(" {mark}"), format!("\0{mark}好"), format!("好{mark}")] {
                assert!(tokenizer.encode(&text).unwrap().iter().all(|id| !ids.contains(id)), "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn a_byte_that_is_ascii_is_shown_to_the_citation_mask_as_itself() {
    let (golden, tokenizer) = golden("llama2");
    assert!(!golden.ids.is_empty());
    let raw = |id| tokenizer.raw_token(id).unwrap();
    let brackets = (0..tokenizer.len() as u32).filter(|id| raw(*id) == "[").count();
    assert_eq!(brackets, 2, "the piece and the byte");
}
