//! Records: what is shown to the patient and to the generator.

use crate::error::Malformed;
use crate::varint::Cursor;
#[cfg(feature = "write")]
use crate::varint::{put, put_text};

/// Least bytes of a record: the lengths of six empty texts and a count of no diseases.
const LEAST_RECORD_BYTES: usize = 7;

/// One consultation or knowledge record. Every text may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The record's identifier in its corpus.
    pub id: String,
    /// The question the record answers.
    pub question: String,
    /// The physician's answer.
    pub answer: String,
    /// Hospital department.
    pub department: String,
    /// Diseases the record is about.
    pub related_diseases: Vec<String>,
    /// The corpus it comes from.
    pub source: String,
    /// Where it can be read in full.
    pub url: String,
}

impl Record {
    /// Appends the record in the order of its fields.
    #[cfg(feature = "write")]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for text in [&self.id, &self.question, &self.answer, &self.department] {
            put_text(out, text);
        }
        put(out, self.related_diseases.len() as u64);
        self.related_diseases.iter().for_each(|disease| put_text(out, disease));
        put_text(out, &self.source);
        put_text(out, &self.url);
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut text = || cursor.text().map(str::to_owned);
        let (id, question, answer, department) = (text()?, text()?, text()?, text()?);
        let diseases = cursor.count(1)?;
        let related_diseases = (0..diseases).map(|_| cursor.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        let (source, url) = (cursor.text()?.to_owned(), cursor.text()?.to_owned());
        Ok(Self { id, question, answer, department, related_diseases, source, url })
    }
}

/// Reads a block: its first row, and its records from that row on.
pub(crate) fn parse_block(payload: &[u8]) -> Result<(u32, Vec<Record>), Malformed> {
    let mut cursor = Cursor::new(payload);
    let first_row = cursor.varint_u32()?;
    let rows = cursor.count(LEAST_RECORD_BYTES)?;
    let records = (0..rows).map(|_| Record::parse(&mut cursor)).collect::<Result<_, _>>()?;
    cursor.finish()?;
    Ok((first_row, records))
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use crate::block::encode_rows;
    use proptest::prelude::*;

    #[test]
    fn records_come_back_with_every_field() {
        let full = Record {
            id: "7".into(),
            question: "头痛怎么办".into(),
            answer: "多休息。".into(),
            department: "神经内科".into(),
            related_diseases: vec!["偏头痛".into(), String::new()],
            source: "huatuo".into(),
            url: "https://example.org/7".into(),
        };
        let records = vec![full, Record::default()];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.put(&mut bytes));
        assert_eq!(parse_block(&encode_rows(300, 2, &bytes)), Ok((300, records)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_records_or_an_error(payload: Vec<u8>) {
            let _ = parse_block(&payload);
        }
    }
}
