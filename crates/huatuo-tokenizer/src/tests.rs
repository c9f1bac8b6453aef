//! Files that are sound but for one field.

use crate::from_json;

const SOUND: &str = r#"{"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"aa":2},"merges":[["a","a"]]}}"#;

/// The message for the sound file with one text replaced.
fn error(from: &str, to: &str) -> String {
    let changed = SOUND.replace(from, to);
    assert_ne!(changed, SOUND);
    from_json(changed.as_bytes()).err().unwrap().to_string()
}

#[test]
fn a_sound_file_is_read() {
    let tokenizer = from_json(SOUND.as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("aaa", true).unwrap().get_ids(), [2, 1]);
}

#[test]
fn merges_that_are_longer_than_every_token_are_refused() {
    for merge in [r#"["aa","aa"]"#, r#""aa aa""#] {
        assert_eq!(error(r#"["a","a"]"#, merge), "its `model.merges` make a token of 4 bytes, the longest one has 2");
    }
}

#[test]
fn merges_behind_a_prefix_are_refused() {
    let with_prefix = error(r#""unk_token""#, r#""continuing_subword_prefix":"xx","unk_token""#);
    assert!(with_prefix.contains("`model.continuing_subword_prefix` is \"xx\""), "{with_prefix}");
}

#[test]
fn a_file_of_something_else_says_where_it_ends() {
    let cut = from_json(&SOUND.as_bytes()[..20]).err().unwrap().to_string();
    assert!(cut.contains("line 1 column 20"), "{cut}");
}

/// The message for the sound file with a step of its own.
fn step_error(field: &str, step: &str) -> String {
    error(r#"{"model""#, &format!(r#"{{"{field}":{step},"model""#))
}

#[test]
fn steps_of_unknown_kinds_are_named_with_their_place() {
    let nested = r#"{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Precompiled","precompiled_charsmap":"AAAAAA=="}]}"#;
    assert_eq!(
        step_error("normalizer", nested),
        "its `normalizer.normalizers[1]` is `Precompiled`, which is not supported"
    );
    assert_eq!(step_error("decoder", r#"{"stop":3}"#), "its `decoder` has no type");
}

#[test]
fn steps_that_panic_at_their_parameters_are_refused() {
    let piece = |piece: &str| {
        format!(
            r#"{{"type":"TemplateProcessing","single":[{piece}],"pair":[],"special_tokens":{{"x":{{"id":"x","ids":[1,1],"tokens":["x"]}}}}}}"#
        )
    };
    for (field, step, place) in [
        ("pre_tokenizer", r#"{"type":"FixedLength","length":0}"#.to_owned(), "pre_tokenizer.length"),
        ("decoder", r#"{"type":"Strip","content":"a","start":0,"stop":9}"#.to_owned(), "decoder.stop"),
        ("post_processor", piece(r#"{"SpecialToken":{"id":"y","type_id":0}}"#), "post_processor.single"),
        ("post_processor", piece(r#"{"SpecialToken":{"id":"x","type_id":0}}"#), "post_processor.special_tokens"),
        ("post_processor", piece(r#"{"Sequence":{"id":"B","type_id":0}}"#), "post_processor.single"),
    ] {
        assert!(step_error(field, &step).contains(&format!("`{place}`")), "{}", step_error(field, &step));
    }
}

#[test]
fn steps_that_make_texts_ever_longer_are_refused() {
    let double = r#"{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaa"}"#;
    let step = format!(r#"{{"type":"Sequence","normalizers":[{}]}}"#, [double; 3].join(","));
    assert!(step_error("normalizer", &step).contains("256 times longer"));
}

#[test]
fn expressions_that_unfold_are_refused() {
    let step = |expression: &str| {
        format!(r#"{{"type":"Split","pattern":{{"Regex":"{expression}"}},"behavior":"Isolated","invert":false}}"#)
    };
    assert!(step_error("pre_tokenizer", &step(r"(\\p{L}{9}){9}")).contains("`pre_tokenizer.pattern` repeats"));
    assert!(step_error("pre_tokenizer", &step(&"a".repeat(2000))).contains("1024 bytes"));
    let numbers = SOUND.replace(r#"{"model""#, &format!(r#"{{"pre_tokenizer":{},"model""#, step(r"\\p{N}{1,3}")));
    assert!(from_json(numbers.as_bytes()).is_ok());
}

#[test]
fn a_decoder_that_the_library_cannot_parse_is_an_error() {
    // Found by fuzzing: half of a surrogate pair, and a number that is too large, in a field that nothing reads.
    for value in [r#""\ud800""#, "1e999"] {
        let message = step_error("decoder", &format!(r#"{{"type":"Fuse","other":{value}}}"#));
        assert!(message.starts_with("it is no tokenizer: "), "{message}");
    }
}

#[test]
fn a_text_is_never_padded() {
    let padding = r#""padding":{"strategy":{"Fixed":1000000000000},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"u"}"#;
    let file = SOUND.replace(r#"{"model""#, &format!(r#"{{{padding},"model""#));
    assert_eq!(from_json(file.as_bytes()).unwrap().encode("a", true).unwrap().get_ids(), [1]);
}

#[test]
fn words_that_would_take_minutes_are_refused() {
    let message = error(r#""unk_token""#, r#""max_input_chars_per_word":1000000,"unk_token""#);
    assert!(message.contains("`model.max_input_chars_per_word` is 1000000"), "{message}");
}
