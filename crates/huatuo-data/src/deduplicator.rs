//! Finding records that say again what an earlier one says, in 57 to 62 bytes a record kept.
//!
//! A record is compared by its question and by its answer, each alone: two answers to one question are two records.
//! Candidates come from two keys a record, made of MinHash minima and of a hash of the numbers, units and words that
//! turn a sentence; so records that differ in those are never compared, and both stay. What is not sure is kept.

use std::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64;

use crate::compact_table::CompactTable;
use crate::comparable::{comparable, telling_parts};
use crate::min_hash::{KEYS, Signature, join, min_hash};
use crate::record::SourceRecord;

/// Bits of the signatures of question and answer together that may differ: 6.4 bits are an estimated Jaccard similarity
/// of 0.9 of the one when the other is the same. Where both differ, each may only differ less; so a medicine that takes
/// another's place in question and answer makes another record.
const MAX_DISTANCE: u32 = 6;
/// Records of one key that are compared; beyond it the key tells too little.
const CANDIDATES: usize = 16;
/// Sketches in a block: vectors that double would need twice the memory.
const BLOCK: usize = 1 << 14;

/// What is compared of a record. It depends on the record alone, so that it can be made on any thread.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    keys: [u64; KEYS],
    kept: Kept,
}

/// What stays of a record in memory: 36 bytes, without padding.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Hash of all that is compared.
    whole: u32,
    question: [u32; 4],
    answer: [u32; 4],
}

/// An earlier record that says the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// Its number among those kept, from 0.
    pub(crate) number: u32,
    /// True when question and answer are the same up to case, width, white space and punctuation.
    pub(crate) exact: bool,
}

/// The records kept so far.
#[derive(Debug, Default)]
pub(crate) struct Deduplicator {
    table: CompactTable,
    blocks: Vec<Vec<Kept>>,
    count: u32,
}

impl Sketch {
    /// Of a record's wordings, whatever their order, and its answer, or its URL when it has no answer.
    pub(crate) fn new(record: &SourceRecord) -> Self {
        let mut wordings: Vec<String> = record.questions.iter().map(|question| comparable(question)).collect();
        wordings.sort_unstable();
        let question = wordings.join("|");
        let answer = if record.answer.is_empty() { record.url.clone() } else { comparable(&record.answer) };
        let hash = |text: &str| xxh3_64(text.as_bytes());
        let telling = join(&[hash(&telling_parts(&question)), hash(&telling_parts(&answer))]);
        let (question_signature, question_keys) = min_hash(&question);
        let (answer_signature, answer_keys) = min_hash(&answer);
        Self {
            keys: std::array::from_fn(|key| join(&[question_keys[key], answer_keys[key], telling])),
            kept: Kept {
                whole: join(&[hash(&question), hash(&answer)]) as u32,
                question: to_words(question_signature),
                answer: to_words(answer_signature),
            },
        }
    }
}

impl Deduplicator {
    /// Keeps a record and gives its number, or the earlier one that says the same: an exact duplicate if there is one,
    /// else the first near one.
    pub(crate) fn admit(&mut self, sketch: &Sketch) -> Result<u32, Found> {
        let candidates = sketch.keys.iter().flat_map(|key| self.table.values(*key).take(CANDIDATES));
        let found = candidates.filter_map(|value| self.compare(value.get() - 1, &sketch.kept));
        match found.min_by_key(|found| (!found.exact, found.number)) {
            Some(found) => Err(found),
            None => Ok(self.keep(sketch)),
        }
    }

    fn compare(&self, number: u32, new: &Kept) -> Option<Found> {
        let old = self.blocks[number as usize / BLOCK][number as usize % BLOCK];
        let distance = |left, right| to_signature(left).distance(to_signature(right));
        let total = distance(old.question, new.question) + distance(old.answer, new.answer);
        (total <= MAX_DISTANCE).then_some(Found { number, exact: total == 0 && old.whole == new.whole })
    }

    fn keep(&mut self, sketch: &Sketch) -> u32 {
        match self.blocks.last_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push(sketch.kept),
            None => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(sketch.kept);
                self.blocks.push(block);
            }
        }
        let number = self.count;
        self.count += 1;
        // Values of the table are numbers from 1.
        for (at, key) in sketch.keys.iter().enumerate() {
            // Short texts have one key.
            let is_new = !sketch.keys[..at].contains(key) && self.table.values(*key).nth(CANDIDATES - 1).is_none();
            if is_new && let Some(value) = NonZeroU32::new(self.count) {
                self.table.insert(*key, value);
            }
        }
        number
    }
}

fn to_words(signature: Signature) -> [u32; 4] {
    std::array::from_fn(|word| (signature.0 >> (32 * word)) as u32)
}

fn to_signature(words: [u32; 4]) -> Signature {
    Signature(words.iter().rev().fold(0, |bits, word| bits << 32 | u128::from(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "你好，根据你的描述，考虑是急性支气管炎引起的咳嗽，建议口服阿莫西林胶囊，每日3次，每次0.5g，同时注意休息，\
                        多喝温开水，饮食清淡，避免辛辣刺激的食物，如果症状没有好转，请及时到医院的呼吸内科做进一步的检查和治疗。";

    fn sketch(question: &str, answer: &str) -> Sketch {
        let questions = vec![question.to_owned()];
        Sketch::new(&SourceRecord { questions, answer: answer.to_owned(), ..Default::default() })
    }

    fn second(first: (&str, &str), second: (&str, &str)) -> Result<u32, Found> {
        let mut deduplicator = Deduplicator::default();
        deduplicator.admit(&sketch(first.0, first.1)).unwrap();
        deduplicator.admit(&sketch(second.0, second.1))
    }

    #[test]
    fn the_same_question_and_answer_again_is_an_exact_duplicate() {
        let found = second(("咳嗽怎么办？", "多喝水。"), ("咳嗽 怎么办", "多喝水"));
        assert_eq!(found, Err(Found { number: 0, exact: true }));
    }

    #[test]
    fn a_long_answer_with_a_greeting_more_is_a_near_duplicate() {
        let answer = LONG.replace("你好，", "您好，");
        assert_eq!(second(("咳嗽", LONG), ("咳嗽", &answer)), Err(Found { number: 0, exact: false }));
    }

    #[test]
    fn two_answers_to_one_question_are_two_records() {
        assert_eq!(second(("咳嗽怎么办？", "多喝水。"), ("咳嗽怎么办？", "注意休息。")), Ok(1));
        assert_eq!(second((LONG, "多喝水。"), (LONG, "注意休息。")), Ok(1));
    }

    #[test]
    fn one_answer_to_two_questions_is_two_records() {
        assert_eq!(second(("咳嗽怎么办？", LONG), ("发热怎么办？", LONG)), Ok(1));
    }

    #[test]
    fn another_number_unit_or_negation_is_another_record() {
        for (from, to) in [("3次", "2次"), ("0.5g", "0.5mg"), ("0.5g", "5g"), ("没有好转", "好转"), ("急性", "慢性")]
        {
            assert_eq!(second(("咳嗽", LONG), ("咳嗽", &LONG.replace(from, to))), Ok(1), "{from} {to}");
        }
    }

    #[test]
    fn another_medicine_in_question_and_answer_is_another_record() {
        let question = "我父亲今年冬天受凉以后一直咳嗽，已经在家里吃了阿莫西林，可是总也没有见好，请问医生，阿莫西林还要继续吃吗？";
        let of = |text: &str| text.replace("阿莫西林", "罗红霉素");
        assert_eq!(second((question, LONG), (&of(question), &of(LONG))), Ok(1));
    }

    #[test]
    fn the_order_of_wordings_makes_no_difference() {
        let with = |questions: [&str; 2]| {
            let questions = questions.map(str::to_owned).to_vec();
            Sketch::new(&SourceRecord { questions, answer: "多喝水。".to_owned(), ..Default::default() })
        };
        let mut deduplicator = Deduplicator::default();
        deduplicator.admit(&with(["感冒", "伤风"])).unwrap();
        assert!(deduplicator.admit(&with(["伤风", "感冒"])).is_err());
    }

    #[test]
    fn links_to_two_places_are_two_records() {
        let to = |url: &str| {
            let questions = vec!["头痛".to_owned()];
            Sketch::new(&SourceRecord { questions, url: url.to_owned(), ..Default::default() })
        };
        let mut deduplicator = Deduplicator::default();
        deduplicator.admit(&to("https://example.org/1")).unwrap();
        assert!(deduplicator.admit(&to("https://example.org/2")).is_ok());
        assert!(deduplicator.admit(&to("https://example.org/1")).is_err());
    }

    #[test]
    fn signatures_survive_being_stored() {
        let signature = Signature(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(to_signature(to_words(signature)), signature);
    }
}
