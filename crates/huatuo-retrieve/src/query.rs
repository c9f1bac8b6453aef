//! The query of a turn: a follow-up such as 它一般怎么治疗呢？ is completed with what was asked before.

use huatuo_core::{Conversation, Question};

/// Words that point back.
const ANAPHORA: &[&str] = &[
    "这个病",
    "这种病",
    "这病",
    "该病",
    "此病",
    "这种情况",
    "这个情况",
    "这种药",
    "这个药",
    "这药",
    "该药",
    "那个病",
    "这个毛病",
    "这种症状",
    "这些症状",
    "它们",
    "它的",
    "它",
    "上面说的",
    "刚才说的",
    "前面说的",
    "刚才那个",
];
/// Words that ask, rather than name what is asked about. What is left without them is the topic. Longest first
/// where one is part of another.
const ASKING: &[&str] = &[
    "有没有什么",
    "有没有办法",
    "请问一下",
    "注意事项",
    "注意哪些",
    "并发症",
    "副作用",
    "不良反应",
    "什么时候",
    "为什么",
    "怎么办",
    "怎么样",
    "怎么治",
    "怎么回事",
    "多长时间",
    "多少时间",
    "有哪些",
    "是什么",
    "什么样",
    "哪方面",
    "挂号",
    "科室",
    "哪个科",
    "什么科",
    "原因",
    "病因",
    "症状",
    "表现",
    "检查",
    "化验",
    "治疗",
    "治好",
    "治愈",
    "根治",
    "手术",
    "用药",
    "药物",
    "吃药",
    "吃什么",
    "饮食",
    "忌口",
    "食物",
    "预防",
    "避免",
    "复发",
    "后果",
    "危害",
    "严重",
    "传染",
    "遗传",
    "影响",
    "护理",
    "恢复",
    "运动",
    "锻炼",
    "休息",
    "生活",
    "日常",
    "平时",
    "方面",
    "一般",
    "通常",
    "需要",
    "应该",
    "可以",
    "能够",
    "必须",
    "是不是",
    "会不会",
    "要不要",
    "能不能",
    "可不可以",
    "有什么",
    "什么",
    "怎么",
    "怎样",
    "如何",
    "哪些",
    "哪个",
    "哪里",
    "哪种",
    "多久",
    "多少",
    "请问",
    "医生",
    "大夫",
    "您好",
    "你好",
    "谢谢",
    "帮忙",
    "告诉",
    "知道",
    "注意",
    "情况",
    "方法",
    "办法",
    "建议",
    "措施",
    "准备",
    "那么",
    "还有",
    "另外",
    "然后",
    "以后",
    "之后",
    "现在",
    "目前",
    "如果",
    "医院",
];
/// Words of spoken follow-ups that say nothing, and would weigh as much as the topic in a question this short.
const FILLERS: &[&str] = &["一般", "通常", "平时", "请问", "那么", "那", "呢", "吧", "啊", "呀"];
/// Characters that carry no topic at the edges of what is left.
const FUNCTION_CHARACTERS: &str = "那还不没做去看挂要会能吃喝用有是吗呢吧啊呀的了得在对和与或都也就才再又更很太我你他她好多少几天次来到上下让给把被从为以该这些种个点时哪啥咋嘛么可想说";
/// A topic longer than this is a story; its beginning says what it is about.
const TOPIC_CHARS: usize = 40;

/// A query that can be understood without the conversation. A question with a topic of its own stays as it is;
/// otherwise the topic of the latest question that had one is put before it.
pub fn standalone_query(question: &Question, conversation: &Conversation) -> String {
    let text = question.text();
    let without_anaphora = remove_all(&text.replace("其它", "其他"), ANAPHORA);
    let points_back = without_anaphora != text.replace("其它", "其他");
    if !points_back && !topic(text).is_empty() {
        return text.to_owned();
    }
    match conversation.patient_texts().map(|earlier| topic(&remove_all(earlier, ANAPHORA))).find(|t| !t.is_empty()) {
        Some(topic) => format!("{topic}{}", remove_all(&without_anaphora, FILLERS)),
        None => text.to_owned(),
    }
}

/// What a question is about: what is left without the words that ask, without function characters around it, and at
/// least two characters long.
fn topic(text: &str) -> String {
    let mut kept = String::new();
    let mut segment = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let asking = ASKING.iter().filter(|word| rest.starts_with(**word)).map(|word| word.len()).max();
        match asking {
            None if c.is_alphanumeric() => segment.push(c),
            _ => close_segment(&mut segment, &mut kept),
        }
        rest = &rest[asking.unwrap_or(c.len_utf8())..];
    }
    close_segment(&mut segment, &mut kept);
    kept.chars().take(TOPIC_CHARS).collect()
}

fn close_segment(segment: &mut String, kept: &mut String) {
    let named = segment.trim_matches(|c| FUNCTION_CHARACTERS.contains(c));
    if named.chars().count() > 1 {
        kept.push_str(named);
    }
    segment.clear();
}

fn remove_all(text: &str, words: &[&str]) -> String {
    words.iter().fold(text.to_owned(), |text, word| text.replace(word, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(earlier: &[&str], question: &str) -> String {
        let mut conversation = Conversation::default();
        for text in earlier {
            conversation.push_round(text, "答。");
        }
        standalone_query(&Question::new(question).unwrap(), &conversation)
    }

    #[test]
    fn a_pronoun_takes_the_topic_of_the_question_before() {
        assert_eq!(query(&["糖尿病有哪些症状？"], "它一般怎么治疗呢？"), "糖尿病怎么治疗？");
    }

    #[test]
    fn a_question_without_a_topic_goes_back_to_the_last_one_that_had_one() {
        let earlier = ["糖尿病有哪些症状？", "它一般怎么治疗呢？"];
        assert_eq!(query(&earlier, "平时饮食要注意什么？"), "糖尿病饮食要注意什么？");
    }

    #[test]
    fn a_new_topic_stands_alone() {
        assert_eq!(query(&["糖尿病有哪些症状？"], "感冒怎么治疗？"), "感冒怎么治疗？");
        assert_eq!(query(&["糖尿病有哪些症状？"], "布洛芬饭前吃还是饭后吃？"), "布洛芬饭前吃还是饭后吃？");
    }

    #[test]
    fn names_keep_their_last_character() {
        assert_eq!(topic("得了糖尿病怎么办"), "糖尿病");
        assert_eq!(topic("上呼吸道感染要吃药吗"), "呼吸道感染");
        assert_eq!(topic("那会传染吗？"), "");
    }

    #[test]
    fn a_first_question_is_never_changed() {
        assert_eq!(query(&[], "它怎么治疗？"), "它怎么治疗？");
    }
}
