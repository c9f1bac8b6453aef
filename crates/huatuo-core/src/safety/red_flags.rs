//! Red flags: signs that need an emergency service before they need an answer.

use super::red_flag_table::{INFANT_FEVER, RULES, Rule, SUICIDE};

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

/// Words that deny a term a few characters on, such as 没有明显胸痛.
const DENIALS: &[&str] = &["没有", "并非", "否认"];
/// How many characters before a term such a denial may stand.
const DENIAL_REACH: usize = 4;
/// Words that deny a term directly behind them, but for [`FILLERS`].
const DIRECT_DENIALS: &[&str] = &["没有", "没", "无", "不", "未", "并非", "否认", "不是", "不会", "从不"];
/// Words between a direct denial and its term that change nothing: 没怎么吐, 不觉得胸闷.
const FILLERS: &[&str] = &[
    "出现", "发生", "明显", "感觉", "感到", "觉得", "任何", "什么", "怎么", "过", "到", "特别", "太", "很", "再", "伴",
    "有", "想", "见", "是", "会",
];
/// Denials in English, and how many characters before a term one may stand: not having chest pain.
const ENGLISH_DENIALS: &[&str] = &["no ", "not ", "without ", "never ", "don't have ", "doesn't have ", "denies "];
/// See [`ENGLISH_DENIALS`].
const ENGLISH_REACH: usize = 12;
/// Words with a denying character that deny no sign: 不小心吞了, 受不了想死, 没有力气, 从来没有这么疼.
const NOT_DENIALS: &[&str] = &[
    "不小心",
    "不知",
    "不停",
    "不断",
    "不住",
    "不了",
    "不下",
    "不动",
    "不舒服",
    "不得",
    "不清",
    "不开",
    "不起",
    "不醒",
    "不应",
    "是不是",
    "会不会",
    "要不要",
    "有没有",
    "能不能",
    "要不",
    "不如",
    "不仅",
    "不光",
    "不但",
    "不止",
    "不只",
    "不明",
    "不久",
    "不慎",
    "不过",
    "不然",
    "不行",
    "不对",
    "不会是",
    "不想活",
    "无法",
    "无力",
    "无缘无故",
    "无故",
    "没有这么",
    "没这么",
    "没有过这么",
    "没有这样",
    "没这样",
    "没有力",
    "没有劲",
    "没有精神",
    "没有胃口",
    "没有食欲",
    "没有意识",
    "没有办法",
    "没有反应",
    "没有知觉",
    "没有呼吸",
    "没有心跳",
    "没有用",
    "没有效果",
    "没有好转",
    "没有缓解",
    "没有改善",
    "没有退",
    "没有吃",
    "没有睡",
    "没有人",
    "没有我",
    "没想到",
    "没多久",
    "没一会",
    "没几",
    "没力",
    "没劲",
    "没用",
    "没事",
];
/// Contrasts that end the reach of a denial over a list: 没有发烧和咳嗽就是胸痛.
const CONTRASTS: &[&str] = &["但", "就是", "只", "却", "突然", "现在", "还", "又", "一直", "结果"];
/// The longest item, in characters, of a list that one denial covers: 无发热、胸痛、咯血.
const LISTED_ITEM: usize = 8;

/// How many characters `…` in a term stands for at most.
const GAP: usize = 8;
/// The same before an English word.
const ENGLISH_GAP: usize = 24;

/// Marks of a question for knowledge; its clause states no sign unless [`HAPPENING`].
const INFORMATION: &[&str] = &[
    "预防",
    "防止",
    "避免",
    "以防",
    "区别",
    "后遗症",
    "什么是",
    "是什么意思",
    "什么叫",
    "科普",
    "几率",
    "概率",
    "发病率",
    "先兆",
    "前兆",
    "早期症状",
    "有哪些症状",
    "症状有哪些",
    "说明书",
    "副作用",
    "残留",
    "遗传",
    "传播",
    "传染",
    "平时怎么",
    "万一",
    "假如",
    "假设",
    "prevent",
    "what is ",
    "difference between",
];
/// Marks of something that is happening or has just happened, which no question for knowledge has.
const HAPPENING: &[&str] =
    &["了", "突然", "忽然", "刚", "现在", "正在", "今天", "今早", "昨", "一直", "suddenly", "now"];
/// Words that contain a mark of [`HAPPENING`] and are none.
const NOT_HAPPENING: &[&str] = &["为了", "除了", "了解", "刚性"];
/// Marks of something long over, unless the clause has one of [`LASTING`].
const PAST: &[&str] = &["年前", "去年", "前年", "小时候", "年轻时", "years ago", "last year", "as a child"];
/// Marks of the past that need 过 to be one: 以前吐过血.
const PAST_WITH_GUO: &[&str] = &["以前", "曾经", "之前"];
/// Marks of a past that reaches into the present.
const LASTING: &[&str] = &[
    "现在",
    "今天",
    "刚",
    "又",
    "最近",
    "开始",
    "一直",
    "从",
    "至今",
    "没",
    "突然",
    "越来越",
    "这几天",
    "这两天",
    "now",
];
/// What may come of something, asked and not stated: 会不会昏迷, 会引起胃出血吗.
const CONSEQUENCES: &[&str] = &[
    "会不会",
    "会导致",
    "会引起",
    "会造成",
    "会引发",
    "会诱发",
    "会发生",
    "容易导致",
    "容易引起",
    "可能导致",
    "可能引起",
];
/// Before 会 these make it a statement or a question for the cause: 为什么会, 总会.
const NOT_CONSEQUENCES: &[char] = &['么', '总', '老', '就', '常', '都', '还', '也'];

/// Other spellings and typing errors, folded before matching; 呼吸困难 so that 没有呼吸 is not read in its denial.
const SPELLINGS: &[(&str, &str)] = &[("囗", "口"), ("呼吸困难", "喘不上气"), ("蛰", "蜇"), ("猫抓板", "猫爬架")];

/// Months below which any fever is an emergency.
const INFANT_MONTHS: u32 = 3;

/// Red flags in the question, or in question and earlier words of the patient together when the question adds one of
/// the signs. `earlier` is newest first; two turns back are read.
pub fn red_flags<'a>(question: &str, earlier: impl Iterator<Item = &'a str>) -> Vec<RedFlag> {
    let question = normalize(question);
    let context: String = earlier.take(2).map(normalize).collect::<Vec<_>>().join("。");
    let (complaint, history) = (complaints(&question), complaints(&context));
    let complained = format!("{history}。{complaint}");
    let everything = format!("{context}。{question}");
    let mut found: Vec<RedFlag> = RULES
        .iter()
        .filter(|rule| match rule.id {
            // A thought of suicide counts however it is put.
            SUICIDE => matches(rule, &question, &everything),
            _ => matches(rule, &complaint, &complained),
        })
        .map(RedFlag::from)
        .collect();
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

/// A term that suffices in the question itself, or all groups in the patient's words together and at least one of them
/// in the question.
fn matches(rule: &Rule, question: &str, together: &str) -> bool {
    stated(rule.alone, question)
        || (rule.groups.iter().all(|group| stated(group, together))
            && rule.groups.iter().any(|group| stated(group, question)))
}

fn stated(group: &[&str], text: &str) -> bool {
    group.iter().any(|term| {
        let mut parts = term.split('…');
        let first = parts.next().unwrap_or_default();
        first.split('/').any(|word| {
            occurrences(text, word)
                .any(|at| !denied(&text[..at], word) && follow(parts.clone(), &text[at + word.len()..]))
        })
    })
}

/// Whether the further parts of a term follow, each within the gap behind the one before it.
fn follow<'a>(mut parts: impl Iterator<Item = &'a str> + Clone, text: &str) -> bool {
    let Some(part) = parts.next() else { return true };
    part.split('/').any(|word| {
        let reach = if word.is_ascii() { ENGLISH_GAP } else { GAP };
        occurrences(text, word)
            .take_while(|&at| {
                let between = &text[..at];
                between.chars().count() <= reach && !between.chars().any(is_clause_end)
            })
            .any(|at| !denied(&text[..at], word) && follow(parts.clone(), &text[at + word.len()..]))
    })
}

/// Where a word stands in a text; a Latin word or a number only where it begins.
fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    let begins = |at: usize| {
        let before = text[..at].chars().next_back();
        let first = word.chars().next();
        !before.zip(first).is_some_and(|(b, f)| {
            (b.is_ascii_alphabetic() && f.is_ascii_alphabetic())
                || (b.is_ascii_digit() && f.is_ascii_digit() && word.ends_with('.'))
        })
    };
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| begins(at))
}

/// Whether the words before a term deny it; a denial does not reach over the end of a clause.
fn denied(before: &str, term: &str) -> bool {
    let clause = before.rsplit(is_clause_end).next().unwrap_or_default();
    if term.is_ascii() {
        let near = last_chars(clause, ENGLISH_REACH);
        return ENGLISH_DENIALS.iter().any(|denial| occurrences(near, denial).next().is_some());
    }
    let clause = NOT_DENIALS.iter().fold(clause.to_owned(), |text, words| {
        if text.contains(words) { text.replace(words, &"·".repeat(words.chars().count())) } else { text }
    });
    let item = clause.rsplit(is_pause).next().unwrap_or_default();
    let near = last_chars(item, DENIAL_REACH);
    DENIALS.iter().any(|denial| near.contains(denial)) || directly_denied(item) || denied_in_list(&clause)
}

fn directly_denied(before: &str) -> bool {
    let mut rest = before;
    loop {
        if DIRECT_DENIALS.iter().any(|denial| rest.ends_with(denial)) {
            return true;
        }
        match FILLERS.iter().find_map(|filler| rest.strip_suffix(filler)) {
            Some(shorter) => rest = shorter,
            None => return false,
        }
    }
}

/// Whether one denial stands before a list that leads up to the term: 无发热、胸痛和…
fn denied_in_list(clause: &str) -> bool {
    const LIST: [char; 4] = ['、', '和', '及', '或'];
    let Some(from) = ["没有", "无", "否认", "未见"].iter().filter_map(|d| clause.rfind(d).map(|at| at + d.len())).max()
    else {
        return false;
    };
    let list = &clause[from..];
    list.contains(LIST)
        && list.split(LIST).all(|item| item.chars().count() <= LISTED_ITEM)
        && !CONTRASTS.iter().any(|word| list.contains(word))
}

fn last_chars(text: &str, count: usize) -> &str {
    let from = text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at);
    &text[from..]
}

/// The patient's words without the clauses that state nothing of the present: questions for knowledge, events long over
/// and consequences asked about.
fn complaints(text: &str) -> String {
    let marks = NOT_HAPPENING.iter().fold(text.to_owned(), |text, word| text.replace(word, ""));
    let happening = HAPPENING.iter().any(|mark| occurrences(&marks, mark).next().is_some());
    let any = |marks: &[&str], clause: &str| marks.iter().any(|mark| clause.contains(mark));
    text.split_inclusive(is_clause_end)
        .map(|clause| {
            let over = any(PAST, clause) || (clause.contains('过') && any(PAST_WITH_GUO, clause));
            if (over && !any(LASTING, clause)) || (!happening && any(INFORMATION, clause)) {
                "。"
            } else {
                before_consequence(clause)
            }
        })
        .collect()
}

/// The clause up to a consequence that is only asked about.
fn before_consequence(clause: &str) -> &str {
    let asked = clause.contains("会不会") || clause.contains('吗') || clause.contains('么');
    let at = CONSEQUENCES.iter().filter_map(|words| clause.find(words)).min();
    match at {
        Some(at) if asked && !clause[at..].starts_with("会不会是") && !clause[..at].ends_with(NOT_CONSEQUENCES) => {
            &clause[..at]
        }
        _ => clause,
    }
}

fn is_pause(c: char) -> bool {
    matches!(c, '，' | '。' | '、' | '；' | '！' | '？' | ',' | '.' | ';' | '!' | '?')
}

fn is_clause_end(c: char) -> bool {
    c != '、' && is_pause(c)
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
    let text: String = (0..folded.len()).filter(|&i| keep(i)).map(|i| folded[i]).collect();
    SPELLINGS.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// An infant under three months by the words used: 新生儿, 满月, 出生20天, 两个月大的宝宝, 八周的宝宝.
fn is_young_infant(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "新生儿",
        "刚出生",
        "未满月",
        "没满月",
        "刚满月",
        "满月宝宝",
        "刚满两个月",
        "双满月",
        "月子里的宝宝",
        "newborn",
    ];
    const MONTHS: &[&str] =
        &["个月", "个多月", "个半月", "月大", "月龄", "月的", "月宝宝", "月婴", "月娃", " month", "-month"];
    const WEEKS: &[&str] = &["周", " week", "-week"];
    const DAYS: &[&str] = &["天", "多天", "来天", "几天", " day", "-day"];
    if WORDS.iter().any(|word| text.contains(word)) {
        return true;
    }
    // A month is an age wherever a baby is spoken of; weeks and days are as often how long it has been ill.
    let below = |units: &[&str], limit: u32, of_age: bool| {
        units.iter().any(|unit| {
            text.match_indices(unit).any(|(at, _)| {
                let (before, after) = (&text[..at], &text[at + unit.len()..]);
                number_at_end(before).is_some_and(|(number, rest)| number < limit && (!of_age || is_age(rest, after)))
            })
        })
    };
    let baby = BABY.iter().any(|word| text.contains(word));
    (baby && below(MONTHS, INFANT_MONTHS, false))
        || below(WEEKS, INFANT_MONTHS * 4, true)
        || below(DAYS, INFANT_MONTHS * 30, true)
}

/// Words for a child.
const BABY: &[&str] = &[
    "宝宝",
    "婴儿",
    "婴",
    "孩子",
    "小孩",
    "儿子",
    "女儿",
    "孙子",
    "孙女",
    "宝贝",
    "小家伙",
    "娃",
    "baby",
    "infant",
    "old",
];

/// Whether a number of days or weeks between these words is an age: 宝宝才五十天, 28天的宝宝, 出生第5天.
fn is_age(before: &str, after: &str) -> bool {
    let mut before = before;
    while let Some(rest) = ["才", "刚", "第", "只有", "现在", "快", "了", "的", "满", "生下来"]
        .iter()
        .find_map(|filler| before.strip_suffix(filler))
    {
        before = rest;
    }
    let after = after.trim_start_matches(['的', '大', '多', '新', '小', ' ', '-', 's']);
    before.ends_with("出生")
        || BABY.iter().any(|word| before.ends_with(word) || after.starts_with(word))
        || after.starts_with("儿子")
}

/// The number at the end of a text, in digits or in Chinese below a hundred, and the text before it.
fn number_at_end(text: &str) -> Option<(u32, &str)> {
    const NUMERALS: &str = "一二三四五六七八九";
    let rest = text.trim_end_matches(|c: char| c.is_ascii_digit());
    if rest.len() < text.len() {
        return Some((text[rest.len()..].parse().ok()?, rest));
    }
    let rest = text.trim_end_matches(|c: char| NUMERALS.contains(c) || "两俩半十百".contains(c));
    let mut number = 0;
    let mut digit = None;
    for c in text[rest.len()..].chars() {
        match c {
            '十' => number += digit.take().unwrap_or(1) * 10,
            '百' => number += digit.take().unwrap_or(1) * 100,
            '半' => digit = digit.or(Some(0)),
            '两' | '俩' => digit = Some(2),
            _ => digit = NUMERALS.chars().zip(1..).find(|(numeral, _)| *numeral == c).map(|(_, value)| value),
        }
    }
    (rest.len() < text.len()).then(|| (number + digit.unwrap_or(0), rest))
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

    #[test]
    fn a_word_with_a_denying_character_denies_nothing() {
        assert_eq!(ids("孩子不小心吞了纽扣电池"), ["button-battery"]);
        assert!(ids("我受不了想死").contains(&"suicide"));
        assert!(ids("从来没有这么头疼过").contains(&"thunderclap-headache"));
    }

    #[test]
    fn one_denial_covers_a_list() {
        assert!(ids("无发热、胸痛、咯血").is_empty());
        assert_eq!(ids("没有发热，咯血"), ["gastrointestinal-bleeding"]);
    }

    #[test]
    fn knowledge_past_and_consequences_state_no_sign() {
        assert!(ids("如何防止宝宝误吞纽扣电池").is_empty());
        assert!(ids("小时候被狗咬过").is_empty());
        assert!(ids("高血压会导致昏迷吗").is_empty());
        assert!(ids("去年得过脑梗，今天又嘴歪了").contains(&"stroke"));
        assert!(ids("孩子误吞了纽扣电池，以后怎么预防").contains(&"button-battery"));
        assert!(ids("怎么预防自杀").contains(&"suicide"), "a thought of suicide counts however it is put");
    }
}
