//! Doses: an amount with a unit, or how often a medicine is taken. None is shown that no reference states.

/// Units of amounts, longest first so that 毫克 is not read as 克.
const UNITS: &[&str] = &[
    "万单位",
    "国际单位",
    "万iu",
    "毫克",
    "微克",
    "毫升",
    "单位",
    "μg",
    "mcg",
    "ug",
    "mg",
    "ml",
    "iu",
    "g",
    "克",
    "片",
    "粒",
    "袋",
    "支",
    "滴",
    "喷",
    "丸",
    "包",
    "颗",
    "瓶",
    "贴",
    "揿",
];
/// Words that make a following count of 次 a frequency.
const PERIODS: &[&str] = &["每日", "每天", "一日", "一天", "日", "每晚", "每周", "每次", "一次"];
/// Characters of the longest rate.
const RATE_CHARS: usize = 3;
const CHINESE_DIGITS: &str = "零一二两三四五六七八九十百千半";

/// Amounts and frequencies in a text, normalised: full-width digits folded, lower case, no spaces, Chinese digits kept.
pub fn doses_in(text: &str) -> Vec<String> {
    let text = fold(text);
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let end = number_end(&chars, at);
        if end == at {
            at += 1;
            continue;
        }
        let rest: String = chars[end..].iter().take(4).collect();
        if let Some(unit) = UNITS.iter().find(|unit| rest.starts_with(**unit) && !continues_as_word(&rest, unit)) {
            let amount = chars[at..end].iter().collect::<String>() + unit;
            let behind: String = chars[end..].iter().skip(unit.chars().count()).take(RATE_CHARS).collect();
            found.push(amount + rate(&behind));
        } else if rest.starts_with('次') {
            let before: String = chars[at.saturating_sub(3)..at].iter().collect();
            if let Some(period) = PERIODS.iter().find(|period| before.ends_with(**period)) {
                found.push(format!("{period}{}次", chars[at..end].iter().collect::<String>()));
            }
        }
        at = end;
    }
    found
}

/// What the amount is for, such as `/kg`: 10mg/kg is not 10mg.
fn rate(behind: &str) -> &str {
    const RATES: &[&str] = &["/kg", "/公斤", "/千克", "/日", "/天", "/次", "/h", "/小时", "每公斤", "每千克"];
    RATES.iter().find(|rate| behind.starts_with(**rate)).copied().unwrap_or_default()
}

/// Doses of a sentence that stand in none of the reference texts.
pub fn unsupported_doses<'a>(sentence: &str, references: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut wanted = doses_in(sentence);
    if wanted.is_empty() {
        return wanted;
    }
    for reference in references {
        let stated = doses_in(reference);
        wanted.retain(|dose| !stated.contains(dose));
    }
    wanted
}

/// Latin unit letters that go on as a word (`2 grams`) still count; a `g` inside another word does not.
fn continues_as_word(rest: &str, unit: &str) -> bool {
    unit == "g" && rest[1..].starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn number_end(chars: &[char], start: usize) -> usize {
    let is_number = |c: char| c.is_ascii_digit() || CHINESE_DIGITS.contains(c);
    let mut end = start;
    while end < chars.len() {
        let joins = matches!(chars[end], '.' | ',' | '点' | '-' | '~' | '至' | '到')
            && end > start
            && chars.get(end + 1).is_some_and(|next| is_number(*next));
        if !is_number(chars[end]) && !joins {
            break;
        }
        end += 1;
    }
    end
}

fn fold(text: &str) -> String {
    crate::without_citations(text)
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            'µ' => 'μ',
            '—' | '–' => '-',
            _ => c,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_frequencies_are_found() {
        assert_eq!(doses_in("每次0.3 g，每日三次，或５毫升"), ["0.3g", "每日三次", "5毫升"]);
    }

    #[test]
    fn citations_ages_and_durations_are_no_doses() {
        assert!(doses_in("65岁以上患者[1]，持续3天，血压140/90mmHg，第一次发作").is_empty());
    }

    #[test]
    fn a_range_is_one_dose() {
        assert_eq!(doses_in("口服1~2片"), ["1~2片"]);
    }

    #[test]
    fn an_amount_for_a_kilogram_is_another_dose() {
        assert_eq!(unsupported_doses("口服10mg/kg。", ["口服10mg"].into_iter()), ["10mg/kg"]);
        assert_eq!(unsupported_doses("口服500ug。", ["口服500mg"].into_iter()), ["500ug"]);
        assert_eq!(unsupported_doses("口服1,500mg。", ["口服500mg"].into_iter()), ["1,500mg"]);
    }

    #[test]
    fn a_dose_must_stand_in_a_reference() {
        assert_eq!(unsupported_doses("口服500mg。", ["口服250mg"].into_iter()), ["500mg"]);
        assert!(unsupported_doses("口服250 mg。", ["无", "口服２５０ｍｇ"].into_iter()).is_empty());
    }
}
