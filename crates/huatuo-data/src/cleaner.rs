//! From the records of a crawl to those of an index: texts cleaned, repetitions dropped.

use std::collections::HashSet;

use crate::clean_text::{clean_line, clean_text};
use crate::comparable::comparable;
use crate::deduplicator::{Deduplicator, Found, Sketch};
use crate::drop_reason::DropReason;
use crate::record::SourceRecord;
use crate::report::Report;

/// Longest question and answer together, in bytes of UTF-8: about 11,000 Chinese characters.
const LONGEST: usize = 32 << 10;

/// Cleans records and drops those that are empty, too long, or say what an earlier one says.
///
/// What is kept depends on the records and their order alone. Memory: 57 to 62 bytes a record kept.
#[derive(Debug, Default)]
pub struct Cleaner {
    deduplicator: Deduplicator,
    report: Report,
}

/// A record that was cleaned and may be a repetition: all that can be done on any thread, in any order.
#[derive(Clone, Debug)]
pub struct PreparedRecord {
    id: String,
    outcome: Result<(SourceRecord, Sketch), DropReason>,
}

impl PreparedRecord {
    /// Cleans a record's texts: markup, control and zero-width characters and runs of white space go, and wordings that
    /// repeat another; numbers, units, comparisons and names stay as they are.
    pub fn new(record: SourceRecord) -> Self {
        let id = record.id.clone();
        let outcome = clean(record).map(|record| {
            let sketch = Sketch::new(&record);
            (record, sketch)
        });
        Self { id, outcome }
    }
}

impl Cleaner {
    /// Gives a record cleaned.
    ///
    /// # Errors
    /// Says why the record is dropped.
    pub fn clean(&mut self, record: SourceRecord) -> Result<SourceRecord, DropReason> {
        self.admit(PreparedRecord::new(record))
    }

    /// Gives a prepared record unless it is a repetition; records must come in the order of the corpus.
    ///
    /// # Errors
    /// Says why the record is dropped.
    pub fn admit(&mut self, prepared: PreparedRecord) -> Result<SourceRecord, DropReason> {
        let outcome = prepared.outcome.and_then(|(record, sketch)| match self.deduplicator.admit(&sketch) {
            Ok(_) => Ok(record),
            Err(Found { number: of, exact: true }) => Err(DropReason::Duplicate { of }),
            Err(Found { number: of, exact: false }) => Err(DropReason::NearDuplicate { of }),
        });
        match &outcome {
            Ok(record) => self.report.keep(&record.id),
            Err(reason) => self.report.drop(prepared.id, reason),
        }
        outcome
    }

    /// What was kept and dropped so far.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

fn clean(record: SourceRecord) -> Result<SourceRecord, DropReason> {
    let mut seen = HashSet::new();
    let wordings = record.questions.iter().map(|question| clean_line(question));
    let questions: Vec<String> = wordings.filter(|q| says_something(q) && seen.insert(comparable(q))).collect();
    if questions.is_empty() {
        return Err(DropReason::NoQuestion);
    }
    let answer = Some(clean_text(&record.answer)).filter(|answer| says_something(answer)).unwrap_or_default();
    if answer.is_empty() && record.url.is_empty() {
        return Err(DropReason::NoAnswer);
    }
    let bytes = questions.iter().map(String::len).sum::<usize>() + answer.len();
    if bytes > LONGEST {
        return Err(DropReason::TooLong { bytes, limit: LONGEST });
    }
    let mut related_diseases: Vec<String> = record.related_diseases.iter().map(|name| clean_line(name)).collect();
    related_diseases.retain(|name| !name.is_empty());
    Ok(SourceRecord { questions, answer, related_diseases, department: clean_line(&record.department), ..record })
}

fn says_something(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize, question: &str, answer: &str) -> SourceRecord {
        let questions = vec![question.to_owned()];
        SourceRecord { id: id.to_string(), questions, answer: answer.to_owned(), ..Default::default() }
    }

    #[test]
    fn texts_are_cleaned_and_wordings_that_repeat_another_dropped() {
        let mut dirty = record(1, "<b>血压</b>&lt;90/60\n怎么办？", "<p>卧床。</p><p>WBC > 10 时就诊。</p>");
        dirty.questions.extend(["血压<90/60怎么办".to_owned(), "？？".to_owned(), "血压>90/60怎么办".to_owned()]);
        dirty.related_diseases = vec!["低血压&nbsp;".to_owned(), "<br>".to_owned()];
        let cleaned = Cleaner::default().clean(dirty).unwrap();
        assert_eq!(cleaned.questions, ["血压<90/60 怎么办？", "血压>90/60怎么办"]);
        assert_eq!(cleaned.answer, "卧床。\nWBC > 10 时就诊。");
        assert_eq!(cleaned.related_diseases, ["低血压"]);
    }

    #[test]
    fn a_record_of_which_nothing_is_left_says_what_is_missing() {
        let mut cleaner = Cleaner::default();
        assert_eq!(cleaner.clean(record(1, "<br>？", "a")), Err(DropReason::NoQuestion));
        assert_eq!(cleaner.clean(record(2, "头痛", "&nbsp;。")), Err(DropReason::NoAnswer));
        let linked = SourceRecord { url: "https://example.org".to_owned(), ..record(3, "头痛", "") };
        assert!(cleaner.clean(linked).is_ok());
    }

    #[test]
    fn a_record_over_the_limit_is_too_long() {
        let dropped = Cleaner::default().clean(record(1, "q", &"a".repeat(LONGEST)));
        assert_eq!(dropped, Err(DropReason::TooLong { bytes: LONGEST + 1, limit: LONGEST }));
    }

    #[test]
    fn a_repetition_names_the_record_that_was_kept() {
        let mut cleaner = Cleaner::default();
        cleaner.clean(record(1, "咳嗽", "多喝水。")).unwrap();
        let reason = cleaner.clean(record(2, "咳嗽", "<p>多喝水</p>")).unwrap_err();
        assert_eq!(reason.to_string(), "duplicate of record 0");
        assert_eq!(cleaner.report().to_string(), "1 records kept\n1 dropped, duplicate: 2 of 1");
    }

    #[test]
    fn any_number_of_threads_keeps_the_same_records() {
        let records: Vec<_> = (0..2000).map(|n| record(n, "咳嗽怎么办", &format!("第{}种办法", n % 700))).collect();
        let mut one = Cleaner::default();
        let expected: Vec<_> = records.iter().map(|record| one.clean(record.clone())).collect();
        let prepared: Vec<_> = std::thread::scope(|scope| {
            let prepare = |part: &[SourceRecord]| part.iter().cloned().map(PreparedRecord::new).collect::<Vec<_>>();
            let threads: Vec<_> = records.chunks(300).map(|part| scope.spawn(move || prepare(part))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut many = Cleaner::default();
        let kept: Vec<_> = prepared.into_iter().map(|prepared| many.admit(prepared)).collect();
        assert_eq!(kept, expected);
        assert_eq!(many.report().kept(), 700);
    }
}
