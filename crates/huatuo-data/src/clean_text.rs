//! One text without what crawling left in it: markup, control and zero-width characters, runs of white space.

use crate::markup::without_markup;

/// The text cleaned; no letter, digit, unit or sign that is shown changes. Lines stay lines, none of them blank.
pub(crate) fn clean_text(text: &str) -> String {
    let text = without_markup(text);
    let mut cleaned = String::with_capacity(text.len());
    // White space is written when a character follows, so that none is left at either end.
    let mut pending = None;
    for c in text.chars() {
        if is_line_end(c) {
            pending = Some('\n');
        } else if c.is_whitespace() {
            pending = pending.or(Some(' '));
        } else if !is_invisible(c) {
            if let Some(space) = pending.take().filter(|_| !cleaned.is_empty()) {
                cleaned.push(space);
            }
            cleaned.push(c);
        }
    }
    cleaned
}

/// The text cleaned, on one line.
pub(crate) fn clean_line(text: &str) -> String {
    clean_text(text).replace('\n', " ")
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Control characters, and format characters that take no room: soft hyphens, joiners, direction and byte order marks.
fn is_invisible(c: char) -> bool {
    let zero_width = matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    c.is_control() || zero_width || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn white_space_is_one_space_or_one_line_end() {
        assert_eq!(clean_text(" \u{3000}多喝\t\u{a0} 水\r\n \n休息 \n"), "多喝 水\n休息");
        assert_eq!(clean_line("a\nb"), "a b");
    }

    #[test]
    fn what_is_not_seen_is_removed() {
        assert_eq!(clean_text("\u{feff}阿\u{200b}司\u{ad}匹\u{0}林\u{200d}"), "阿司匹林");
    }

    const TANGLED: &str = "[<>/a-c&;= 血压\n0-9\"]{0,40}|(<b>|</p>|&lt;|&amp;|9|<|a|\n){0,9}";
    const PLAIN: &str = "([0-9]{1,3}|mg|<|>| |/|血压|≤|\\.|每日|%|\\+|-|WBC|\n){0,30}";

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing_more(text in TANGLED) {
            let once = clean_text(&text);
            prop_assert_eq!(clean_text(&once), once);
        }

        #[test]
        fn texts_without_markup_keep_every_visible_character(text in PLAIN) {
            let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(visible(&clean_text(&text)), visible(&text));
        }
    }
}
