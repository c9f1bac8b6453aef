//! Parquet files in each of Huatuo-26M's shapes, and what is wrong with others.

#![allow(clippy::unwrap_used, reason = "a test fails where its preparation does")]

mod fixture;

use fixture::{Column, LIST, LIST_OF_LISTS, lists, texts, write};
use huatuo_data::{DataError, FileFormat, Reading, RecordReader, SourceRecord, read_records};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};

fn read(schema: &str, compression: Compression, columns: &[Column]) -> Vec<SourceRecord> {
    let folder = tempfile::tempdir().unwrap();
    read_records(&[write(folder.path(), schema, compression, columns)], 0.0).unwrap().records
}

fn read_with_malformed(schema: &str, columns: &[Column]) -> Reading {
    let folder = tempfile::tempdir().unwrap();
    read_records(&[write(folder.path(), schema, Compression::UNCOMPRESSED, columns)], 1.0).unwrap()
}

#[test]
fn the_encyclopedia_shape_is_lists_of_lists_of_wordings() {
    let schema = format!("optional group questions {LIST_OF_LISTS} optional group answers {LIST}");
    let questions = lists(5, &[(0, Some("什么是感冒")), (2, Some("感冒是什么")), (1, Some("伤风")), (0, Some("咳嗽"))]);
    let answers = lists(3, &[(0, Some("上呼吸道感染。")), (0, Some("一种症状。"))]);
    let records = read(&schema, Compression::SNAPPY, &[questions, answers]);
    assert_eq!(records[0].questions, ["什么是感冒", "感冒是什么", "伤风"]);
    assert_eq!((records[1].questions[0].as_str(), records[1].answer.as_str()), ("咳嗽", "一种症状。"));
    assert_eq!((records[1].id.as_str(), records[1].source.as_str()), ("corpus:2", "corpus"));
}

#[test]
fn the_knowledge_graph_shape_is_lists_of_texts() {
    let schema = format!("optional group questions {LIST} optional group answers {LIST}");
    let questions = lists(3, &[(0, Some("感冒吃什么药")), (1, None), (1, Some("感冒用药"))]);
    let answers = lists(3, &[(0, Some("对症用药。"))]);
    let level = ZstdLevel::try_new(3).unwrap();
    let records = read(&schema, Compression::ZSTD(level), &[questions, answers]);
    assert_eq!(records[0].questions, ["感冒吃什么药", "感冒用药"]);
}

#[test]
fn the_consultation_shape_may_answer_with_a_url() {
    let schema = "optional binary questions (UTF8); optional binary answers (UTF8);";
    let columns = [texts(&["头痛", "发热"]), texts(&["https://example.org/1", "多喝水。"])];
    let records = read(schema, Compression::GZIP(GzipLevel::default()), &columns);
    assert_eq!((records[0].answer.as_str(), records[0].url.as_str()), ("", "https://example.org/1"));
    assert_eq!(records[1].answer, "多喝水。");
}

#[test]
fn the_lite_shape_has_a_department_and_diseases() {
    let schema = "required int64 id; optional binary answer (UTF8); required int64 score; \
                  optional binary label (UTF8); optional binary question (UTF8); \
                  optional binary related_diseases (UTF8);";
    let id = Column::Numbers(vec![7]);
    let score = Column::Numbers(vec![5]);
    let columns = [id, texts(&["a"]), score, texts(&["儿科"]), texts(&["q"]), texts(&["感冒、咳嗽"])];
    let records = read(schema, Compression::UNCOMPRESSED, &columns);
    assert_eq!((records[0].id.as_str(), records[0].department.as_str()), ("7", "儿科"));
    assert_eq!(records[0].related_diseases, ["感冒", "咳嗽"]);
}

#[test]
fn rows_of_more_than_one_batch_keep_their_lists() {
    let schema = format!("optional group questions {LIST} optional group answers {LIST}");
    let questions: Vec<_> = (0..1000).flat_map(|_| [(0, Some("a")), (1, Some("b"))]).collect();
    let answers: Vec<_> = (0..1000).map(|_| (0, Some("c"))).collect();
    let records = read(&schema, Compression::UNCOMPRESSED, &[lists(3, &questions), lists(3, &answers)]);
    assert_eq!(records.len(), 1000);
    assert!(records.iter().all(|record| record.questions == ["a", "b"] && record.answer == "c"));
}

#[test]
fn a_row_without_an_answer_is_located_and_skipped() {
    let schema = "optional binary question (UTF8); optional binary answer (UTF8);";
    let answers = Column::Texts(vec![b"a", b"a"], vec![1, 0, 1], vec![]);
    let reading = read_with_malformed(schema, &[texts(&["q", "q", "q"]), answers]);
    assert_eq!(reading.records.len(), 2);
    assert!(reading.malformed[0].to_string().contains("corpus.parquet:2: no answer"));
}

#[test]
fn a_row_in_another_encoding_is_located_and_skipped() {
    let schema = "optional binary question; optional binary answer;";
    let questions = Column::Texts(vec![b"q", b"ab\xb8\xd0"], vec![1, 1], vec![]);
    let reading = read_with_malformed(schema, &[questions, texts(&["a", "a"])]);
    assert!(reading.malformed[0].to_string().contains("corpus.parquet:2: not UTF-8 from byte 2"));
}

#[test]
fn too_many_malformed_rows_end_the_reading_as_soon_as_the_footer_allows_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let answers = Column::Texts(vec![b"a", b"a"], vec![1, 0, 0, 1], vec![]);
    let schema = "optional binary question (UTF8); optional binary answer (UTF8);";
    let columns = [texts(&["q", "q", "q", "q"]), answers];
    let path = write(folder.path(), schema, Compression::UNCOMPRESSED, &columns);
    let mut reader = RecordReader::open(&[path], 0.25).unwrap();
    assert!(matches!(reader.next(), Some(Ok(_))));
    assert!(matches!(reader.next(), Some(Err(DataError::TooManyMalformed { malformed: 2, lines: 4, .. }))));
    assert_eq!(reader.lines(), 3);
}

#[test]
fn a_file_without_questions_tells_its_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "optional binary title (UTF8);", Compression::UNCOMPRESSED, &[texts(&["t"])]);
    let error = RecordReader::open(&[path], 0.0).err().unwrap();
    assert!(matches!(&error, DataError::NoQuestions { columns, .. } if columns == &["title"]), "{error}");
}

#[test]
fn a_file_that_was_cut_off_is_damaged_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "optional binary question (UTF8);", Compression::UNCOMPRESSED, &[texts(&["q"])]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let error = RecordReader::open(&[path], 0.0).err().unwrap();
    assert!(matches!(error, DataError::Damaged { format: FileFormat::Parquet, after: 0, .. }));
    assert!(error.to_string().contains("corpus.parquet"));
}
