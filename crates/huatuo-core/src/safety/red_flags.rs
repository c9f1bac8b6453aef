//! Red flags: signs that need an emergency service before they need an answer.

use super::red_flag_table::{INFANT_FEVER, RULES, Rule};

/// A danger sign found in the patient's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedFlag {
    /// Stable identifier such as `stroke`.
    pub id: &'static str,
    /// What to do at once, in Chinese.
    pub advice: &'static str,
    /// What to do at once, in English.
    pub advice_en: &'static str,
}

/// Words before a term that deny it, such as 没有胸痛.
const DENIALS: &[&str] = &["没有", "没", "无", "不", "未", "并非", "否认", "no ", "not ", "without "];
/// How many characters before a term a denial may stand: 没有明显胸痛.
const DENIAL_REACH: usize = 4;
/// Months below which any fever is an emergency.
const INFANT_MONTHS: u32 = 3;

/// Red flags in the question, or in question and earlier words of the patient together when the question adds one of
/// the signs. `earlier` is newest first; two turns back are read.
pub fn red_flags<'a>(question: &str, earlier: impl Iterator<Item = &'a str>) -> Vec<RedFlag> {
    let question = normalize(question);
    let context: String = earlier.take(2).map(normalize).collect::<Vec<_>>().join("。");
    let together = format!("{context}。{question}");
    let mut found: Vec<RedFlag> =
        RULES.iter().filter(|rule| matches(rule, &question, &together)).map(RedFlag::from).collect();
    if matches(&INFANT_FEVER, &question, &question) && is_young_infant(&question) {
        found.push(RedFlag::from(&INFANT_FEVER));
    }
    found
}

impl From<&Rule> for RedFlag {
    fn from(rule: &Rule) -> Self {
        Self { id: rule.id, advice: rule.advice, advice_en: rule.advice_en }
    }
}

/// All groups in the patient's words together, and at least one of them in the question itself.
fn matches(rule: &Rule, question: &str, together: &str) -> bool {
    rule.groups.iter().all(|group| stated(group, together)) && rule.groups.iter().any(|group| stated(group, question))
}

fn stated(group: &[&str], text: &str) -> bool {
    group.iter().any(|term| text.match_indices(term).any(|(at, _)| !denied(&text[..at])))
}

/// Whether the words just before a term deny it; a denial does not reach over punctuation.
fn denied(before: &str) -> bool {
    let near: String = before.chars().rev().take(DENIAL_REACH).take_while(|c| !is_pause(*c)).collect();
    let near: String = near.chars().rev().collect();
    DENIALS.iter().any(|denial| near.contains(denial))
}

fn is_pause(c: char) -> bool {
    matches!(c, '，' | '。' | '、' | '；' | '！' | '？' | ',' | '.' | ';' | '!' | '?')
}

/// Lower case, full-width forms folded to ASCII, white space between Chinese characters dropped.
fn normalize(text: &str) -> String {
    let folded: Vec<char> = text
        .chars()
        .map(|c| match c {
            '\u{ff10}'..='\u{ff5a}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            '\u{2019}' => '\'',
            _ => c,
        })
        .flat_map(char::to_lowercase)
        .collect();
    let keep = |i: usize| {
        folded[i] != ' ' || (i > 0 && folded[i - 1].is_ascii() && folded.get(i + 1).is_some_and(char::is_ascii))
    };
    (0..folded.len()).filter(|&i| keep(i)).map(|i| folded[i]).collect()
}

/// An infant under three months by the words used: 新生儿, 满月, 出生20天, 两个月大的宝宝.
fn is_young_infant(text: &str) -> bool {
    const WORDS: &[&str] =
        &["新生儿", "刚出生", "未满月", "没满月", "还没满月", "刚满月", "满月宝宝", "月子里的宝宝", "newborn"];
    const BABY: &[&str] = &["宝宝", "婴儿", "孩子", "小孩", "儿子", "女儿", "baby", "娃", "infant"];
    if WORDS.iter().any(|word| text.contains(word)) {
        return true;
    }
    let baby = BABY.iter().any(|word| text.contains(word));
    let months = |unit: &str| number_before(text, unit).is_some_and(|n| n < INFANT_MONTHS);
    let days = |unit: &str| text.contains("出生") && number_before(text, unit).is_some_and(|n| n < INFANT_MONTHS * 30);
    baby && (months("个月") || months("个多月") || months(" month") || months("月大") || days("天"))
}

/// The number that stands directly before the first occurrence of a unit.
fn number_before(text: &str, unit: &str) -> Option<u32> {
    let before: Vec<char> = text[..text.find(unit)?].chars().collect();
    let digits: String = {
        let mut tail: Vec<char> = before.iter().rev().take_while(|c| c.is_ascii_digit()).copied().collect();
        tail.reverse();
        tail.into_iter().collect()
    };
    if !digits.is_empty() {
        return digits.parse().ok();
    }
    // A two-character number such as 十一 is never below three.
    let ten = before.len() > 1 && "十百".contains(before[before.len() - 2]);
    match before.last()? {
        _ if ten => Some(11),
        '一' => Some(1),
        '两' | '二' => Some(2),
        '三' => Some(3),
        '半' => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(question: &str) -> Vec<&'static str> {
        red_flags(question, std::iter::empty()).iter().map(|flag| flag.id).collect()
    }

    #[test]
    fn chest_pain_with_cold_sweat_is_a_heart_attack_until_shown_otherwise() {
        assert_eq!(ids("我胸口疼得厉害，还一直冒冷汗"), ["acute-coronary-syndrome"]);
    }

    #[test]
    fn a_denied_sign_is_no_flag() {
        assert!(ids("有点胸闷，没有出汗，也不恶心").is_empty());
    }

    #[test]
    fn signs_are_added_up_over_turns() {
        let flags = red_flags("现在还出冷汗了", ["胸口疼了一会儿"].into_iter());
        assert_eq!(flags.first().map(|flag| flag.id), Some("acute-coronary-syndrome"));
    }

    #[test]
    fn an_old_sign_alone_is_not_repeated() {
        assert!(red_flags("那饮食要注意什么", ["胸痛出冷汗"].into_iter()).is_empty());
    }

    #[test]
    fn fever_counts_only_in_young_infants() {
        assert_eq!(ids("两个月的宝宝发烧38度5怎么办"), ["infant-fever"]);
        assert!(ids("十个月的宝宝发烧怎么办").is_empty());
        assert!(ids("我发烧两个月了").is_empty());
        assert_eq!(ids("宝宝出生20天，发热"), ["infant-fever"]);
    }

    #[test]
    fn one_phrase_of_each_danger_is_found() {
        for (question, id) in [
            ("我爸突然嘴歪了，说话不清", "stroke"),
            ("伤口血流不止", "heavy-bleeding"),
            ("活着没意思，想死", "suicide"),
            ("被蜂蜇了之后喉咙发紧喘不上气", "anaphylaxis"),
            ("孩子误服了一瓶药", "poisoning-overdose"),
            ("一晚上烧炭取暖，头晕恶心", "carbon-monoxide"),
            ("老人叫不醒", "unconscious"),
            ("怀孕30周大量出血", "pregnancy-emergency"),
            ("孩子吞了纽扣电池", "button-battery"),
            ("吐血了怎么办", "gastrointestinal-bleeding"),
            ("I have chest pain and I'm sweating", "acute-coronary-syndrome"),
        ] {
            assert!(ids(question).contains(&id), "{question}: {:?}", ids(question));
        }
    }

    #[test]
    fn everyday_questions_raise_no_flag() {
        for question in [
            "感冒怎么治疗",
            "高血压饮食注意什么",
            "孕妇可以吃螃蟹吗",
            "失眠怎么办",
            "心绞痛要做哪些检查",
            "布洛芬饭前吃还是饭后吃",
            "宝宝眼睛发红怎么办",
        ] {
            assert!(ids(question).is_empty(), "{question}: {:?}", ids(question));
        }
    }

    #[test]
    fn spaces_and_full_width_letters_do_not_hide_a_sign() {
        assert_eq!(ids("胸 痛 伴 冷 汗"), ["acute-coronary-syndrome"]);
    }
}
