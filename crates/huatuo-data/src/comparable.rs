//! The form in which texts are compared: what a reader would take for the same text is the same.

use std::iter::Peekable;
use std::str::Chars;

/// Between two words, or two sentences.
pub(crate) const BREAK: char = '|';

/// Words that turn a sentence into its opposite, or tell one side, sex, time or amount from another.
const TELLING: &str = "不无没未非勿莫禁忌否左右男女阴阳上下前后早晚高低大小增减升降加少多轻重急慢内外良恶酸碱";
/// Numbers in words.
const NUMERALS: &str = "〇零一二两三四五六七八九十百千万亿半双";
/// Signs that are part of a value wherever they stand.
const SIGNS: &str = "<>≤≥=≠+±%‰℃°^×↑↓";

/// The text in lower case and half width; punctuation between words becomes one break, and white space one where two
/// numbers or two Latin words would otherwise run together.
pub(crate) fn comparable(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut pending = Pending::Nothing;
    while let Some(c) = chars.next().map(half_width) {
        let last = form.chars().next_back();
        if is_kept(c, last, &mut chars) {
            let breaks = match pending {
                Pending::Nothing => false,
                Pending::Space => last.is_some_and(|last| runs_together(last, c)),
                Pending::Break => last.is_some(),
            };
            if breaks {
                form.push(BREAK);
            }
            form.extend(c.to_lowercase());
            pending = Pending::Nothing;
        } else if c.is_whitespace() {
            pending = pending.max(Pending::Space);
        } else {
            pending = Pending::Break;
        }
    }
    form
}

/// What stands between the last character kept and the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pending {
    Nothing,
    Space,
    Break,
}

/// Of a comparable text the numbers, units, signs and telling words in their order; texts that differ in them say
/// different things, however alike they are.
pub(crate) fn telling_parts(comparable: &str) -> String {
    let mut parts = String::new();
    for c in comparable.chars() {
        if is_telling(c) {
            parts.push(c);
        } else if !parts.is_empty() && !parts.ends_with(BREAK) {
            parts.push(BREAK);
        }
    }
    parts.truncate(parts.trim_end_matches(BREAK).len());
    parts
}

fn is_telling(c: char) -> bool {
    let latin_or_greek = c.is_alphanumeric() && u32::from(c) < 0x2000;
    latin_or_greek || c.is_numeric() || is_sign(c) || TELLING.contains(c) || NUMERALS.contains(c)
}

fn is_sign(c: char) -> bool {
    SIGNS.contains(c) || ".,:/~-".contains(c)
}

/// Letters, numbers and signs; a point, slash or dash only within a number, a minus also before one.
fn is_kept(c: char, last: Option<char>, chars: &mut Peekable<Chars>) -> bool {
    if c.is_alphanumeric() || SIGNS.contains(c) {
        return true;
    }
    let before_digit = chars.peek().is_some_and(|next| half_width(*next).is_ascii_digit());
    let after_digit = last.is_some_and(|last| last.is_ascii_digit());
    before_digit && (c == '-' || (after_digit && is_sign(c)))
}

fn runs_together(left: char, right: char) -> bool {
    (left.is_ascii_digit() && right.is_ascii_digit()) || (left.is_ascii_alphabetic() && right.is_ascii_alphabetic())
}

/// Full-width ASCII (U+FF01 to U+FF5E) lies at a fixed distance from ASCII.
fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '−' | '–' => '-',
        'µ' => 'μ',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_case_white_space_and_kind_of_punctuation_make_no_difference() {
        for (left, right) in [
            ("能吃吗？", "能吃吗"),
            ("５ｍｇ，每日2次。", "5 mg, 每日 2 次"),
            ("维生素Ｃ！！", "维生素c"),
            ("体温 37.5℃", "体温37.5℃"),
        ] {
            assert_eq!(comparable(left), comparable(right));
        }
    }

    #[test]
    fn what_changes_the_meaning_makes_a_difference() {
        for (left, right) in [
            ("5.0mg", "50mg"),
            ("1-2片", "12片"),
            ("血压<90", "血压>90"),
            ("10 20", "1020"),
            ("-5℃", "5℃"),
            ("不，能吃", "不能吃"),
            ("120/80", "12080"),
            ("(+)", "(-)"),
            ("1,5", "15"),
        ] {
            assert_ne!(comparable(left), comparable(right), "{left} {right}");
        }
    }

    #[test]
    fn telling_parts_are_numbers_units_signs_and_words_that_turn_a_sentence() {
        assert_eq!(telling_parts(&comparable("头孢氨苄0.5g，一日三次，不能饮酒。")), "0.5g|一|三|不");
        assert_eq!(telling_parts(&comparable("左膝 T>38.5℃")), "左|t>38.5℃");
        assert_ne!(telling_parts(&comparable("3次5天")), telling_parts(&comparable("35天")));
        assert_eq!(telling_parts(&comparable("休息")), "");
    }
}
