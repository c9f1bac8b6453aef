//! From a text to the terms that BM25 counts: character bigrams of Chinese, whole words of everything else.
//!
//! Character bigrams need no dictionary and do about as well as word segmentation for Chinese retrieval (Nie et al.,
//! "On the use of words and n-grams for Chinese information retrieval", IRAL 2000).

use huatuo_fetch::xxh3_64;

/// Set in the key of a word, never in that of one or two characters.
const WORD: u64 = 1 << 63;
/// Bits of a code point in a key.
const CODE_POINT_BITS: u32 = 21;

/// Keys of all terms of a text, in order, repeated ones repeated.
pub(crate) fn term_keys(text: &str) -> Vec<u64> {
    let mut collector = Collector::default();
    for c in text.chars().map(fold_width).flat_map(char::to_lowercase) {
        collector.push(c);
    }
    collector.end_run();
    collector.keys
}

/// Which of `shards` (a power of two) holds a key.
pub(crate) fn shard_of(key: u64, shards: u32) -> u32 {
    // The highest bits, so that a range of hashes is a range of shards however many there are.
    ((u128::from(xxh3_64(&key.to_le_bytes())) * u128::from(shards)) >> 64) as u32
}

#[derive(Default)]
struct Collector {
    keys: Vec<u64>,
    /// Last character of the present run of CJK characters, and whether it is already part of a bigram.
    cjk: Option<(char, bool)>,
    word: String,
}

impl Collector {
    fn push(&mut self, c: char) {
        if is_cjk(c) {
            self.end_word();
            if let Some((previous, _)) = self.cjk {
                self.keys.push((u64::from(u32::from(previous)) << CODE_POINT_BITS) | u64::from(u32::from(c)));
            }
            self.cjk = Some((c, self.cjk.is_some()));
        } else if c.is_alphanumeric() {
            self.end_cjk();
            self.word.push(c);
        } else {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        self.end_cjk();
        self.end_word();
    }

    fn end_cjk(&mut self) {
        if let Some((only, false)) = self.cjk.take() {
            self.keys.push(u64::from(u32::from(only)));
        }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.keys.push(xxh3_64(self.word.as_bytes()) | WORD);
            self.word.clear();
        }
    }
}

/// Full-width ASCII (U+FF01 to U+FF5E) and the ideographic space become their ordinary twins.
fn fold_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from((u32::from(c) - 0xfee0) as u8),
        other => other,
    }
}

/// Characters written without spaces between words: ideographs, kana and hangul.
fn is_cjk(c: char) -> bool {
    matches!(c,
        '々' | '〇'
        | '\u{3041}'..='\u{30ff}' // kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' // ideographs
        | '\u{ac00}'..='\u{d7a3}' // hangul
        | '\u{20000}'..='\u{3ffff}') // ideographs beyond the basic plane
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(c: char) -> u64 {
        u64::from(u32::from(c))
    }

    fn pair(a: char, b: char) -> u64 {
        one(a) << 21 | one(b)
    }

    fn word(text: &str) -> u64 {
        xxh3_64(text.as_bytes()) | 1 << 63
    }

    #[test]
    fn chinese_becomes_bigrams_and_a_lone_character_stays_alone() {
        assert_eq!(term_keys("糖尿病，咳"), [pair('糖', '尿'), pair('尿', '病'), one('咳')]);
    }

    #[test]
    fn words_and_numbers_stay_whole_beside_chinese() {
        let expected = [one('做'), word("ct"), pair('检', '查'), word("2"), one('型')];
        assert_eq!(term_keys("做CT检查2型"), expected);
    }

    #[test]
    fn full_width_and_case_make_no_difference() {
        assert_eq!(term_keys("ＶＩＴＡＭＩＮ　Ｂ１２"), term_keys("vitamin b12"));
    }

    #[test]
    fn punctuation_alone_has_no_terms() {
        assert!(term_keys("？！… 😷").is_empty());
    }

    #[test]
    fn every_key_has_a_shard() {
        assert!((0..1000).all(|key| shard_of(key, 8) < 8 && shard_of(key, 1) == 0));
    }
}
