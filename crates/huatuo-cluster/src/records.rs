//! Chunks of records that wait for their vectors: Parquet files in the work folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BinaryArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use huatuo_index::{PreparedRow, WORK_FOLDER};

use crate::ClusterError;
use crate::task::{read_table, write_table};

/// A record without its vector, and the text that the vector stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingRow {
    pub row: PreparedRow,
    pub text: String,
}

/// File of a chunk in the work folder of an index.
pub(crate) fn records_path(folder: &Path, chunk: u32) -> PathBuf {
    folder.join(WORK_FOLDER).join(format!("records-{chunk:06}.parquet"))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("record", DataType::Binary, false),
        Field::new("terms", DataType::Binary, false),
        Field::new("text", DataType::Utf8, false),
    ]))
}

/// Writes a chunk.
pub(crate) fn write_records(folder: &Path, chunk: u32, rows: &[WaitingRow]) -> Result<(), ClusterError> {
    let path = records_path(folder, chunk);
    let bytes = |of: fn(&WaitingRow) -> &[u8]| Arc::new(BinaryArray::from_iter_values(rows.iter().map(of)));
    let batch = RecordBatch::try_new(
        schema(),
        vec![
            bytes(|waiting| &waiting.row.record),
            bytes(|waiting| &waiting.row.terms),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|waiting| &waiting.text))),
        ],
    );
    write_table(&path, &batch.map_err(|error| ClusterError::damaged(&path, error))?)
}

/// Reads a chunk.
pub(crate) fn read_records(folder: &Path, chunk: u32) -> Result<Vec<WaitingRow>, ClusterError> {
    let path = records_path(folder, chunk);
    let mut rows = Vec::new();
    for batch in read_table(&path, &schema())? {
        let columns = (
            batch.column(0).as_binary_opt::<i32>(),
            batch.column(1).as_binary_opt::<i32>(),
            batch.column(2).as_string_opt::<i32>(),
        );
        let (Some(records), Some(terms), Some(texts)) = columns else {
            return Err(ClusterError::damaged(&path, "it has other columns"));
        };
        rows.extend((0..records.len()).map(|at| WaitingRow {
            row: PreparedRow { record: records.value(at).to_vec(), terms: terms.value(at).to_vec() },
            text: texts.value(at).to_owned(),
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(WORK_FOLDER)).unwrap();
        let row = |text: &str| WaitingRow {
            row: PreparedRow { record: vec![0, 255], terms: text.as_bytes().to_vec() },
            text: text.to_owned(),
        };
        let rows = vec![row("头痛"), row("")];
        write_records(folder.path(), 2, &rows).unwrap();
        assert_eq!(read_records(folder.path(), 2).unwrap(), rows);
        assert!(read_records(folder.path(), 3).unwrap_err().is_transient());
    }
}
