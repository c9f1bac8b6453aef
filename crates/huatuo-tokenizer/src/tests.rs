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
