//! The sentences of the references that a generator is given: reading them is most of the time to its first token.

use crate::Reference;
use crate::sentence::{ends_sentence, split_sentences};

/// Words of sentences that tell when to seek help or what must not be done: such a sentence is never left out.
#[rustfmt::skip]
const WARNINGS: &[&str] = &[
    "120", "急诊", "急救", "紧急", "立即", "立刻", "马上", "尽快", "及时", "危及", "禁用", "禁忌", "禁止", "慎用", "忌用", "不能",
    "不可", "不得", "不要", "不宜", "勿", "避免", "过敏", "孕妇", "停药",
];

/// Shortens the best reference to the sentences that matter for a question, whole and in their order.
///
/// Its best sentence and its warnings are kept whatever the room, in characters; the next best sentences follow as far as
/// there is room. `score` says how close sentences are to the question.
pub fn best_excerpt(best: &Reference, room: usize, score: impl FnOnce(&[&str]) -> Vec<f32>) -> String {
    excerpts(std::slice::from_ref(best), best_room(room), score).remove(0)
}

/// Shortens the references behind the best one in the same way, the next best sentences chosen among all of them. `score`
/// is asked once for all.
pub fn further_excerpts(others: &[Reference], room: usize, score: impl FnOnce(&[&str]) -> Vec<f32>) -> Vec<String> {
    excerpts(others, room - best_room(room), score)
}

/// What the best reference may take; the others share the rest. Fixed, so that its excerpt is known before they have come.
fn best_room(room: usize) -> usize {
    room / 5 * 3
}

fn excerpts(references: &[Reference], room: usize, score: impl FnOnce(&[&str]) -> Vec<f32>) -> Vec<String> {
    let sentences: Vec<Vec<&str>> = references.iter().map(|reference| split_sentences(&reference.answer)).collect();
    if references.iter().map(|reference| reference.answer.chars().count()).sum::<usize>() <= room {
        return references.iter().map(|reference| reference.answer.clone()).collect();
    }
    let scores = score(&sentences.concat());
    let mut candidates = Vec::new();
    let mut next = scores.into_iter();
    for (r, sentences) in sentences.iter().enumerate() {
        for (s, sentence) in sentences.iter().enumerate() {
            let is_warning = WARNINGS.iter().any(|word| sentence.contains(word));
            let score = next.next().unwrap_or(0.0);
            candidates.push(Candidate {
                reference: r,
                sentence: s,
                characters: sentence.chars().count(),
                is_warning,
                score,
            });
        }
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Vec<bool>> = sentences.iter().map(|sentences| vec![false; sentences.len()]).collect();
    let mut left = room;
    for is_first in [true, false] {
        for candidate in &candidates {
            let of_reference = &mut kept[candidate.reference];
            let wanted = match is_first {
                true => candidate.is_warning || !of_reference.contains(&true),
                false => !of_reference[candidate.sentence] && candidate.characters <= left,
            };
            if wanted {
                of_reference[candidate.sentence] = true;
                left = left.saturating_sub(candidate.characters);
            }
        }
    }
    let text = |(sentences, kept): (&Vec<&str>, &Vec<bool>)| {
        let kept = sentences.iter().zip(kept).filter(|(_, kept)| **kept).map(|(sentence, _)| *sentence);
        // Sentences that a line break parted must not run together: "每日3次" and "10天后复诊" are two numbers.
        kept.fold(String::new(), |text, sentence| match text.chars().last() {
            Some(last) if !ends_sentence(last) => text + "\n" + sentence,
            _ => text + sentence,
        })
    };
    sentences.iter().zip(&kept).map(text).collect()
}

struct Candidate {
    reference: usize,
    sentence: usize,
    characters: usize,
    is_warning: bool,
    score: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(answer: &str, score: f32) -> Reference {
        Reference {
            id: String::new(),
            question: String::new(),
            answer: answer.to_owned(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score,
        }
    }

    /// Scores a sentence by the digit in it.
    fn by_digit(sentences: &[&str]) -> Vec<f32> {
        let digit = |sentence: &&str| sentence.chars().find_map(|c| c.to_digit(10)).unwrap_or(0) as f32;
        sentences.iter().map(digit).collect()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let references = [reference("甲。乙。", 0.5)];
        assert_eq!(excerpts(&references, 100, |_| unreachable!()), ["甲。乙。"]);
    }

    #[test]
    fn the_best_sentences_stay_whole_and_in_order() {
        let references = [reference("甲1。乙9。丙2。丁8。", 0.5)];
        assert_eq!(excerpts(&references, 6, by_digit), ["乙9。丁8。"]);
    }

    #[test]
    fn every_reference_keeps_its_best_sentence_whatever_the_room() {
        let references = [reference("甲9。乙8。", 0.9), reference("丙1。丁2。", 0.1)];
        assert_eq!(excerpts(&references, 1, by_digit), ["甲9。", "丁2。"]);
    }

    #[test]
    fn the_best_reference_takes_its_share_whatever_the_others() {
        let best = reference("甲1。乙1。丙1。丁1。", 0.9);
        assert_eq!(best_excerpt(&best, 20, by_digit), "甲1。乙1。丙1。丁1。");
        assert_eq!(best_excerpt(&best, 10, by_digit), "甲1。乙1。");
    }

    #[test]
    fn the_others_share_what_is_not_the_best_ones() {
        let others = [reference("丙9。丁8。", 0.1), reference("戊1。己7。", 0.1)];
        assert_eq!(further_excerpts(&others, 15, by_digit), ["丙9。", "己7。"]);
        assert_eq!(further_excerpts(&others, 23, by_digit), ["丙9。丁8。", "己7。"]);
    }

    #[test]
    fn what_must_not_be_done_is_never_left_out() {
        let references = [reference("甲9。孕妇禁用。乙8。", 0.5)];
        assert_eq!(excerpts(&references, 3, by_digit), ["甲9。孕妇禁用。"]);
    }

    #[test]
    fn numbers_of_two_lines_do_not_run_together() {
        let references = [reference("不要一次2片，每日3次\n9天后再来。乙。丙。丁。", 0.5)];
        assert_eq!(excerpts(&references, 10, by_digit), ["不要一次2片，每日3次\n9天后再来。"]);
    }

    #[test]
    fn advice_to_seek_help_at_once_is_never_left_out() {
        let references = [reference("甲9。如果胸痛，立即拨打120。乙8。", 0.5)];
        assert_eq!(excerpts(&references, 3, by_digit), ["甲9。如果胸痛，立即拨打120。"]);
    }
}
