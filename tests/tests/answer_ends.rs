//! An answer ends at a stop string, or at a mark of the chat template that the vocabulary has no token for.
//! The model is a tiny random checkpoint of `tests/golden/families.py`, recognised as one of HuatuoGPT's prompt form; its
//! tokens get such texts here that what it writes contains the stop text.

use huatuo_compute::Cpu;
use huatuo_core::{Conversation, Generator, Prompt, PromptForm};
use huatuo_generate::{GenerateError, LocalGenerator, NeverPause, Sampling};
use huatuo_tests::root;
use serde_json::json;

/// Tokens of the checkpoint, the last of which is the end.
const TOKENS: u32 = 300;
const STOP: u32 = TOKENS - 1;

/// The text of a token that no test gives another one: one character, which but for the first is not in the prompt.
/// Those that tests give have more, so that the prompt, read character by character, is always the same.
fn character(id: u32) -> String {
    if id == 0 { "痛".to_owned() } else { char::from_u32(0xAC00 + id).unwrap().to_string() }
}

fn generator(names: &[(u32, &str)]) -> LocalGenerator<Cpu, NeverPause> {
    let name = |id| names.iter().find(|(named, _)| *named == id).map_or(character(id), |(_, name)| (*name).to_owned());
    let vocabulary: serde_json::Map<_, _> = (0..STOP).map(|id| (name(id), json!(id))).collect();
    let added = json!({"id": STOP, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let model = std::fs::read(root().join("tests/golden/families/baichuan-f32.gguf")).unwrap();
    LocalGenerator::load(Cpu::new(), &model, Some(tokenizer.to_string().as_bytes()), NeverPause).unwrap()
}

/// Flat enough that the tokens at the beginning differ.
fn sampling(stop_strings: &[&str]) -> Sampling {
    let stop_strings = stop_strings.iter().map(|stop| (*stop).to_owned()).collect();
    Sampling { temperature: 20.0, top_k: 0, top_p: 1.0, max_tokens: 12, seed: 3, stop_strings, ..Sampling::default() }
}

fn prompt() -> Prompt {
    PromptForm::OneMessage.prompt(("", "痛"), &Conversation::default(), &[], &[])
}

/// The pieces of an answer.
fn answer(names: &[(u32, &str)], sampling: Sampling) -> Vec<String> {
    let mut generator = generator(names);
    generator.set_sampling(sampling);
    pollster::block_on(async {
        generator.start(&prompt()).await.unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = generator.next().await.unwrap() {
            pieces.push(piece);
        }
        pieces
    })
}

/// The tokens that the model writes, whatever their texts are.
fn written() -> Vec<u32> {
    let text = answer(&[], sampling(&[])).concat();
    let ids: Vec<u32> = text.chars().map(|c| (0..STOP).find(|id| character(*id) == c.to_string()).unwrap()).collect();
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((ids.len(), distinct.len()), (12, 12), "the tests need a seed that writes twelve tokens, all different");
    ids
}

fn text(ids: &[u32]) -> String {
    ids.iter().map(|id| character(*id)).collect()
}

#[test]
fn an_answer_ends_before_a_stop_string_that_spans_tokens() {
    let ids = written();
    let names = [(ids[4], "终于"), (ids[5], "结束了。")];
    let pieces = answer(&names, sampling(&["于结束"]));
    assert_eq!(pieces.concat(), format!("{}终", text(&ids[..4])));
    assert_eq!(pieces.len(), 6, "no token is computed behind the stop string");
}

#[test]
fn what_was_held_back_is_shown_when_it_is_no_stop_string() {
    let ids = written();
    let names = [(ids[4], "终于"), (ids[11], "于结")];
    let pieces = answer(&names, sampling(&["于结束"]));
    assert_eq!(pieces[4..6], ["终".to_owned(), format!("于{}", character(ids[5]))]);
    assert_eq!(pieces[11..], ["", "于结"], "at the end of the answer as well");
}

#[test]
fn an_answer_ends_at_the_templates_mark_that_is_no_token() {
    let ids = written();
    let names = [(ids[4], "好。<"), (ids[5], "病人"), (ids[6], ">："), (ids[2], "<病")];
    let shown = answer(&names, sampling(&[])).concat();
    assert_eq!(shown, format!("{}<病{}好。", text(&ids[..2]), character(ids[3])));
}

#[test]
fn a_setting_out_of_range_is_named_when_an_answer_begins() {
    let mut generator = generator(&[]);
    generator.set_sampling(Sampling { top_p: -1.0, ..Sampling::default() });
    let refused = pollster::block_on(generator.start(&prompt())).unwrap_err();
    assert!(matches!(refused, GenerateError::BadSampling { name: "top-p", .. }), "{refused}");
}

#[test]
fn a_repetition_penalty_changes_what_greedy_decoding_writes() {
    let greedy = |repetition_penalty| {
        answer(&[], Sampling { repetition_penalty, max_tokens: 40, ..Sampling::default() }).concat()
    };
    let repeated = |text: &str| {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        text.chars().count() - characters.len()
    };
    assert!(repeated(&greedy(1.0)) > 0);
    assert_eq!(repeated(&greedy(100.0)), 0);
}
