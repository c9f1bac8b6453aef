//! Rows of a Parquet file, a few at a time, read column by column.
//!
//! Lists are taken apart by their repetition levels (Apache Parquet format, "Nested Encoding"): a level of 0 begins the
//! next row, whatever the depth and the naming of the lists around it, so that one piece of code reads all shapes.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::error::{DataError, FileFormat};
use crate::record::{Fields, Numbered, ParseError, separate};

/// Rows in memory at a time; a row may be as large as its page.
const BATCH: usize = 64;

/// What a row says, or why it can't be used.
type Row = Result<Fields, ParseError>;

/// The rows of one file.
pub(crate) struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    next_group: usize,
    /// Rows of the open row group that are still in the file.
    left: usize,
    columns: Vec<Column>,
    batch: VecDeque<Row>,
    /// Rows given so far.
    number: usize,
}

/// A column of the open row group.
struct Column {
    field: Field,
    descriptor: Levels,
    reader: ColumnReader,
}

/// Where a column's values go.
#[derive(Clone, Copy, PartialEq)]
enum Field {
    Id,
    Question,
    Answer,
    Label,
    Department,
    RelatedDiseases,
    Source,
}

/// Highest levels of a column: what tells a value from a gap, and a list from a single value.
#[derive(Clone, Copy)]
struct Levels {
    definition: i16,
    repetition: i16,
}

impl Rows {
    /// Opens a file and reads its footer.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|error| DataError::Read { path: path.to_owned(), error })?;
        let file = caught(|| SerializedFileReader::new(file)).map_err(|error| damaged(path, 0, error))?;
        let (columns, batch) = (Vec::new(), VecDeque::new());
        let rows = Self { path: path.to_owned(), file, next_group: 0, left: 0, columns, batch, number: 0 };
        let schema = rows.file.metadata().file_metadata().schema_descr();
        if !schema.columns().iter().any(|column| field(column) == Some(Field::Question)) {
            let columns = schema.columns().iter().map(|column| column.path().string()).collect();
            return Err(DataError::NoQuestions { path: path.to_owned(), columns });
        }
        Ok(rows)
    }

    /// Rows that the footer promises.
    pub(crate) fn total(&self) -> usize {
        self.file.metadata().row_groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    /// Rows given so far.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The next row with its number from 1; `None` at the end.
    pub(crate) fn next_row(&mut self) -> Result<Option<Numbered<Fields>>, DataError> {
        while self.batch.is_empty() {
            let more = caught(|| self.fill());
            if !more.map_err(|error| damaged(&self.path, self.number, error))? {
                return Ok(None);
            }
        }
        self.number += 1;
        Ok(self.batch.pop_front().map(|row| (self.number, row)))
    }

    /// Reads the next rows, or opens the next row group; false at the end.
    fn fill(&mut self) -> Result<bool, ParquetError> {
        if self.left == 0 {
            return self.open_group();
        }
        let count = self.left.min(BATCH);
        let mut rows: Vec<Row> = (0..count).map(|_| Ok(Fields::default())).collect();
        for column in &mut self.columns {
            column.read(&mut rows)?;
        }
        self.left -= count;
        self.batch = rows.into();
        Ok(true)
    }

    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group == self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        self.left = usize::try_from(group.metadata().num_rows())?;
        self.columns.clear();
        for (at, column) in group.metadata().columns().iter().enumerate() {
            let descriptor = column.column_descr();
            let Some(field) = field(descriptor) else { continue };
            let descriptor = Levels { definition: descriptor.max_def_level(), repetition: descriptor.max_rep_level() };
            self.columns.push(Column { field, descriptor, reader: group.get_column_reader(at)? });
        }
        Ok(true)
    }
}

impl Column {
    fn read(&mut self, rows: &mut [Row]) -> Result<(), ParquetError> {
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                read_typed(reader, self.descriptor, rows, |fields, value: &ByteArray| {
                    add(fields, self.field, utf8(value.data())?)
                })
            }
            ColumnReader::Int64ColumnReader(reader) => {
                read_typed(reader, self.descriptor, rows, |fields, value| add(fields, self.field, &value.to_string()))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                read_typed(reader, self.descriptor, rows, |fields, value| add(fields, self.field, &value.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a column of as many rows as there are and gives each row its values.
fn read_typed<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    max: Levels,
    rows: &mut [Row],
    mut add: impl FnMut(&mut Fields, &T::T) -> Result<(), ParseError>,
) -> Result<(), ParquetError> {
    let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (read, _, levels) =
        reader.read_records(rows.len(), Some(&mut definition), Some(&mut repetition), &mut values)?;
    if read != rows.len() {
        return Err(ParquetError::EOF(format!("a column ends {} rows too early", rows.len() - read)));
    }
    let mut values = values.iter();
    let mut next_row = 0;
    for level in 0..levels {
        if max.repetition == 0 || repetition.get(level) == Some(&0) {
            next_row += 1;
        }
        let is_value = max.definition == 0 || definition.get(level) == Some(&max.definition);
        let Some(value) = is_value.then(|| values.next()).flatten() else { continue };
        // A damaged file may begin in the middle of a row, or hold more rows than it said.
        let Some(row) = usize::checked_sub(next_row, 1).and_then(|row| rows.get_mut(row)) else {
            return Err(ParquetError::General("repetition levels do not fit the number of rows".to_owned()));
        };
        if let Ok(fields) = row
            && let Err(error) = add(fields, value)
        {
            *row = Err(error);
        }
    }
    Ok(())
}

fn add(fields: &mut Fields, field: Field, text: &str) -> Result<(), ParseError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(());
    }
    match field {
        Field::Id => text.clone_into(&mut fields.id),
        Field::Question => fields.questions.push(text.to_owned()),
        Field::Answer => fields.answers.push(text.to_owned()),
        // As in lines, a label goes before a department.
        Field::Label => text.clone_into(&mut fields.department),
        Field::Department if fields.department.is_empty() => text.clone_into(&mut fields.department),
        Field::Department => {}
        Field::RelatedDiseases => fields.related_diseases.extend(separate(text)),
        Field::Source => text.clone_into(&mut fields.source),
    }
    Ok(())
}

/// The field that a column fills, by its outermost name and type.
fn field(column: &ColumnDescriptor) -> Option<Field> {
    let field = match column.path().parts().first()?.as_str() {
        "id" => Field::Id,
        "questions" | "question" => Field::Question,
        "answers" | "answer" => Field::Answer,
        "label" => Field::Label,
        "department" => Field::Department,
        "related_diseases" => Field::RelatedDiseases,
        "source" => Field::Source,
        _ => return None,
    };
    let readable = match column.physical_type() {
        PhysicalType::BYTE_ARRAY => true,
        PhysicalType::INT64 | PhysicalType::INT32 => field == Field::Id,
        _ => false,
    };
    readable.then_some(field)
}

fn utf8(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|error| ParseError::NotUtf8 { at: error.valid_up_to() })
}

/// Does a step of reading; the `parquet` crate panics on some damaged files, where this gives an error. What panicked
/// is not read from again: the error ends the reading.
fn caught<T>(step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let refused = |_| Err(ParquetError::General("the Parquet decoder refused what it found".to_owned()));
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(refused)
}

fn damaged(path: &Path, after: usize, error: ParquetError) -> DataError {
    let path = path.to_owned();
    DataError::Damaged { path, format: FileFormat::Parquet, after, reason: error.to_string() }
}
