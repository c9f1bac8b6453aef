//! Tables of tasks and of their outcomes, as Parquet.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, UInt32Type, UInt64Type};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use huatuo_fetch::xxh3_64;
use huatuo_index::Part;

use crate::ClusterError;

/// Name of the stage that embeds chunks, before the index's own stages.
pub(crate) const EMBED: &str = "embed";

/// One task, as a row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Folder of the index.
    pub folder: String,
    /// Name of the stage.
    pub stage: String,
    /// Number of the task in its stage.
    pub number: u32,
    /// XXH3-64 of what the stage is given.
    pub given: u64,
    /// For chunks to embed: position of the first row in the input.
    pub first: u32,
    /// For chunks to embed: number of rows.
    pub rows: u32,
}

/// Columns of a table of tasks, which are the arguments of the function.
pub(crate) fn task_fields() -> Vec<Field> {
    vec![
        Field::new("folder", DataType::Utf8, false),
        Field::new("stage", DataType::Utf8, false),
        Field::new("number", DataType::UInt32, false),
        Field::new("given", DataType::UInt64, false),
        Field::new("first", DataType::UInt32, false),
        Field::new("rows", DataType::UInt32, false),
    ]
}

/// Columns of an outcome: the number of the task and the part that it left.
pub(crate) fn outcome_fields() -> Fields {
    Fields::from(vec![
        Field::new("number", DataType::UInt32, false),
        Field::new("part", DataType::Utf8, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("xxh3", DataType::UInt64, false),
    ])
}

/// What tells a table of tasks from others: XXH3-64 of its rows.
pub(crate) fn hash_of(tasks: &[Task]) -> u64 {
    xxh3_64(format!("{tasks:?}").as_bytes())
}

pub(crate) fn task_batch(tasks: &[Task]) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let text = |of: fn(&Task) -> &str| Arc::new(StringArray::from_iter_values(tasks.iter().map(of)));
    let number = |of: fn(&Task) -> u32| Arc::new(UInt32Array::from_iter_values(tasks.iter().map(of)));
    RecordBatch::try_new(
        Arc::new(Schema::new(task_fields())),
        vec![
            text(|task| &task.folder),
            text(|task| &task.stage),
            number(|task| task.number),
            Arc::new(UInt64Array::from_iter_values(tasks.iter().map(|task| task.given))),
            number(|task| task.first),
            number(|task| task.rows),
        ],
    )
}

/// Tasks from the columns that a function is called with.
pub(crate) fn tasks_from(columns: &[Arc<dyn Array>]) -> Option<Vec<Task>> {
    let [folder, stage, number, given, first, rows] = columns else { return None };
    let (folder, stage) = (folder.as_string_opt::<i32>()?, stage.as_string_opt::<i32>()?);
    let numbers = |column: &Arc<dyn Array>| column.as_primitive_opt::<UInt32Type>().cloned();
    let (number, first, rows) = (numbers(number)?, numbers(first)?, numbers(rows)?);
    let given = given.as_primitive_opt::<UInt64Type>()?;
    let task = |at| Task {
        folder: folder.value(at).to_owned(),
        stage: stage.value(at).to_owned(),
        number: number.value(at),
        given: given.value(at),
        first: first.value(at),
        rows: rows.value(at),
    };
    Some((0..folder.len()).map(task).collect())
}

/// Outcomes as a table.
pub(crate) fn outcome_batch(outcomes: &[(u32, Part)]) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let bytes =
        |of: fn(&Part) -> u64| Arc::new(UInt64Array::from_iter_values(outcomes.iter().map(|(_, part)| of(part))));
    RecordBatch::try_new(
        Arc::new(Schema::new(outcome_fields())),
        vec![
            Arc::new(UInt32Array::from_iter_values(outcomes.iter().map(|(number, _)| *number))),
            Arc::new(StringArray::from_iter_values(outcomes.iter().map(|(_, part)| part.name.as_str()))),
            bytes(|part| part.bytes),
            bytes(|part| part.xxh3),
        ],
    )
}

/// Outcomes from such columns.
pub(crate) fn outcomes_from(columns: &[Arc<dyn Array>]) -> Option<Vec<(u32, Part)>> {
    let [number, name, bytes, xxh3] = columns else { return None };
    let (number, name) = (number.as_primitive_opt::<UInt32Type>()?, name.as_string_opt::<i32>()?);
    let (bytes, xxh3) = (bytes.as_primitive_opt::<UInt64Type>()?, xxh3.as_primitive_opt::<UInt64Type>()?);
    let part = |at| Part { name: name.value(at).to_owned(), bytes: bytes.value(at), xxh3: xxh3.value(at) };
    Some((0..number.len()).map(|at| (number.value(at), part(at))).collect())
}

/// Writes a table as a Parquet file, complete or not at all.
pub(crate) fn write_table(path: &Path, batch: &RecordBatch) -> Result<(), ClusterError> {
    let encode = || {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
        writer.write(batch)?;
        writer.close()?;
        Ok::<_, datafusion::parquet::errors::ParquetError>(bytes)
    };
    write_whole(path, &encode().map_err(|error| ClusterError::damaged(path, error))?)
}

/// Writes a file under a temporary name until it is complete.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), ClusterError> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        fs::write(&unfinished, content)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| ClusterError::file(path, error))
}

/// Reads a Parquet file of the given columns.
pub(crate) fn read_table(path: &Path, schema: &SchemaRef) -> Result<Vec<RecordBatch>, ClusterError> {
    let file = fs::File::open(path).map_err(|error| ClusterError::file(path, error))?;
    let read = || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
        if reader.schema().fields() != schema.fields() {
            return Err("it has other columns".into());
        }
        Ok(reader.build()?.collect::<Result<Vec<_>, _>>()?)
    };
    read().map_err(|error: Box<dyn std::error::Error>| ClusterError::damaged(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_outcomes_come_back() {
        let task = |number| Task {
            folder: "/shared/index".to_owned(),
            stage: EMBED.to_owned(),
            number,
            given: u64::MAX,
            first: 7,
            rows: 9,
        };
        let tasks = [task(0), task(3)];
        assert_eq!(tasks_from(task_batch(&tasks).unwrap().columns()).unwrap(), tasks);
        assert_ne!(hash_of(&tasks), hash_of(&tasks[..1]));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stage.parquet");
        let outcomes = vec![(3, Part { name: "rows-000003".to_owned(), bytes: 5, xxh3: u64::MAX })];
        write_table(&path, &outcome_batch(&outcomes).unwrap()).unwrap();
        let schema = Arc::new(Schema::new(outcome_fields()));
        let read = read_table(&path, &schema).unwrap();
        assert_eq!(outcomes_from(read[0].columns()).unwrap(), outcomes);
        assert!(matches!(
            read_table(&path, &Arc::new(Schema::new(task_fields()))).unwrap_err(),
            ClusterError::Damaged { .. }
        ));
    }
}
