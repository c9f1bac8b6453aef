//! Whether a reference states what a sentence of the answer says.
//!
//! The check is lexical on purpose: a reader can follow it, it runs everywhere, and it errs to the side of
//! "not supported". A sentence counts as supported by a reference when
//! * most of its character bigrams stand in the reference,
//! * every number in it stands in the reference, and
//! * it denies what the reference denies: a dropped or added 不, 无, 勿, 避免 … is no support.

use std::collections::HashSet;

use crate::sentence::ends_sentence;
use crate::{Reference, Sentence, citations_in, without_citations};

/// Share of a sentence's bigrams that a reference must contain: a copied sentence has all of them, one that only is
/// about the same disease shares little more than its name.
const MIN_COVERAGE: f32 = 0.75;
/// Bigrams in a row that may be missing: one slipped character breaks two, another drug's name breaks more.
const MAX_GAP: usize = 2;
/// From this similarity on, a reference clause is taken to be the one that was retold, and its denials must be kept.
const RETOLD: f32 = 0.5;
/// Characters and words that turn a statement round.
const DENIALS: &[&str] = &["不", "无", "没", "勿", "禁", "避免", "忌", "非", "未", "否", "别"];

/// How well one reference supports a sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Support {
    /// Share of the sentence's bigrams found in the reference, 0 to 1.
    pub coverage: f32,
    /// Whether coverage, numbers and denials all agree.
    pub supported: bool,
}

/// Compares one sentence (citation marks are ignored) with one reference.
pub fn check_sentence(sentence: &str, reference: &Reference) -> Support {
    let plain = without_citations(sentence);
    let stated = &reference.answer; // a question states nothing: it may well be answered with no
    let wanted = bigrams(&plain);
    if wanted.is_empty() {
        return Support { coverage: 0.0, supported: false };
    }
    let known = bigrams(stated);
    let coverage = overlap(&wanted, &known);
    let supported = coverage >= MIN_COVERAGE
        && longest_gap(&plain, &known) <= MAX_GAP
        && numbers(&plain).is_subset(&numbers(stated))
        && denies_alike(&plain, stated);
    Support { coverage, supported }
}

/// Marks a sentence. Its citations are the references that support it: those it names first, in its order; if none of
/// those does, the best other one.
pub(crate) fn mark(text: &str, references: &[Reference]) -> Sentence {
    let supports: Vec<Support> = references.iter().map(|reference| check_sentence(text, reference)).collect();
    let holds = |n: &usize| (1..=supports.len()).contains(n) && supports[n - 1].supported;
    let mut citations: Vec<usize> = citations_in(text).into_iter().filter(holds).collect();
    if citations.is_empty() {
        let best = (1..=supports.len()).filter(holds).max_by(|a, b| {
            supports[a - 1].coverage.total_cmp(&supports[b - 1].coverage).then(b.cmp(a)) // the earlier one of equals
        });
        citations.extend(best);
    }
    Sentence { text: text.to_owned(), supported: !citations.is_empty(), citations }
}

/// Each clause denies as often as the reference clause that it retells; a clause that retells none adds no denial.
fn denies_alike(sentence: &str, stated: &str) -> bool {
    let clauses = |text: &str| -> Vec<String> {
        text.split(is_clause_end).filter(|clause| !clause.trim().is_empty()).map(str::to_owned).collect()
    };
    let stated = clauses(stated);
    clauses(sentence).iter().all(|clause| {
        let wanted = bigrams(clause);
        let similarity = |candidate: &&String| overlap(&wanted, &bigrams(candidate));
        match stated.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b))) {
            Some(best) if similarity(&best) >= RETOLD => denial_count(clause) == denial_count(best),
            _ => denial_count(clause) == 0,
        }
    })
}

fn is_clause_end(c: char) -> bool {
    ends_sentence(c) || matches!(c, '，' | '：' | ',' | ':' | ';')
}

/// Most bigrams of the text in a row that are not among the known ones.
fn longest_gap(text: &str, known: &HashSet<[char; 2]>) -> usize {
    let chars: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let (mut longest, mut gap) = (0, 0);
    for pair in chars.windows(2).filter(|pair| pair.iter().all(|c| c.is_alphanumeric())) {
        gap = if known.contains(&[pair[0], pair[1]]) { 0 } else { gap + 1 };
        longest = longest.max(gap);
    }
    longest
}

fn denial_count(text: &str) -> usize {
    DENIALS.iter().map(|denial| text.matches(denial).count()).sum()
}

/// Character bigrams of letters and digits, lower case; punctuation and spaces end a run.
fn bigrams(text: &str) -> HashSet<[char; 2]> {
    let chars: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    chars.windows(2).filter(|pair| pair.iter().all(|c| c.is_alphanumeric())).map(|pair| [pair[0], pair[1]]).collect()
}

fn overlap(wanted: &HashSet<[char; 2]>, stated: &HashSet<[char; 2]>) -> f32 {
    if wanted.is_empty() {
        return 0.0;
    }
    wanted.intersection(stated).count() as f32 / wanted.len() as f32
}

/// Numbers written in digits, full-width ones folded, such as 140/90 -> 140 and 90.
pub(crate) fn numbers(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut current = String::new();
    for c in text.chars().chain(std::iter::once(' ')) {
        let folded = match c {
            '０'..='９' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            _ => c,
        };
        if folded.is_ascii_digit() || (folded == '.' && !current.is_empty()) {
            current.push(folded);
        } else if !current.is_empty() {
            found.insert(std::mem::take(&mut current).trim_end_matches('.').to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(answer: &str) -> Reference {
        Reference {
            id: "r".into(),
            question: "高血压饮食注意什么".into(),
            answer: answer.into(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score: 1.0,
        }
    }

    #[test]
    fn a_sentence_of_the_reference_is_supported() {
        let sentence = mark("高血压患者应减少食盐摄入[1]。", &[reference("高血压患者应减少食盐摄入。多吃蔬菜。")]);
        assert_eq!((sentence.supported, sentence.citations), (true, vec![1]));
    }

    #[test]
    fn a_dropped_denial_is_no_support() {
        let stated = reference("高血压患者不宜饮酒，也不要突然停药。");
        assert!(!check_sentence("高血压患者宜饮酒，也要突然停药。", &stated).supported);
    }

    #[test]
    fn the_patients_question_supports_nothing() {
        let mut stated = reference("不可以，请先问医生。");
        stated.question = "高血压可以吃阿司匹林吗".into();
        assert!(!check_sentence("高血压可以吃阿司匹林。", &stated).supported);
    }

    #[test]
    fn a_denial_dropped_from_a_part_or_moved_is_no_support() {
        let stated = reference("急性期应卧床休息，不宜剧烈运动、饮酒，饮食以清淡为主，多吃蔬菜。");
        assert!(!check_sentence("宜剧烈运动、饮酒。", &stated).supported);
        let stated = reference("高血压患者不宜饮酒，要停药。");
        assert!(!check_sentence("高血压患者宜饮酒，不要停药。", &stated).supported);
    }

    #[test]
    fn another_drug_in_a_long_copied_sentence_is_no_support() {
        let stated = reference("高血压患者如果没有禁忌，可以在医生指导下长期规律服用氨氯地平控制血压。");
        let swapped = "高血压患者如果没有禁忌，可以在医生指导下长期规律服用螺内酯控制血压。";
        assert!(!check_sentence(swapped, &stated).supported);
    }

    #[test]
    fn an_invented_number_is_no_support() {
        let stated = reference("成人每天食盐不超过5克。");
        assert!(check_sentence("成人每天食盐不超过5克。", &stated).supported);
        assert!(!check_sentence("成人每天食盐不超过15克。", &stated).supported);
    }

    #[test]
    fn a_wrong_citation_gives_way_to_the_reference_that_supports() {
        let references = [reference("与睡眠有关。"), reference("高血压患者应减少食盐摄入。")];
        assert_eq!(mark("高血压患者应减少食盐摄入[1]。", &references).citations, [2]);
    }

    #[test]
    fn text_from_nowhere_is_unsupported() {
        let sentence = mark("建议立即服用神奇药水[1]。", &[reference("高血压患者应减少食盐摄入。")]);
        assert_eq!((sentence.supported, sentence.citations.len()), (false, 0));
    }
}
