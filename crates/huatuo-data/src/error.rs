//! Why corpus files can't be read, each error with the file and the place in it.

use std::fmt;
use std::path::PathBuf;

use crate::record::ParseError;

/// A line or Parquet row that was skipped; shown as `file:line: reason`.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{}:{line}: {error}", path.display())]
pub struct MalformedLine {
    /// The file.
    pub path: PathBuf,
    /// Line number from 1; of a Parquet file the row's number from 1.
    pub line: usize,
    /// What is wrong.
    pub error: ParseError,
}

/// Formats whose damage is found by their own checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FileFormat {
    /// Lines in gzip (RFC 1952).
    Gzip,
    /// Lines in zstd (RFC 8878).
    Zstd,
    /// Rows in Apache Parquet.
    Parquet,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Parquet => "Parquet",
        })
    }
}

/// Why files can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {error}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The file is cut off, damaged, or not of the format that its name says.
    #[error("{}: damaged {format} file, {after} lines or rows before it were read: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the file should be.
        format: FileFormat,
        /// Lines or rows that were read before the damage.
        after: usize,
        /// The cause.
        reason: String,
    },
    /// A Parquet file without a column of questions.
    #[error("{}: no column `questions` or `question` of texts; the columns are {}", path.display(), columns.join(", "))]
    NoQuestions {
        /// The file.
        path: PathBuf,
        /// The columns that it has.
        columns: Vec<String>,
    },
    /// More malformed lines than allowed.
    #[error("{malformed} of {lines} lines are malformed, more than the allowed {percent} %; the first: {first}")]
    TooManyMalformed {
        /// Malformed lines found.
        malformed: usize,
        /// All lines.
        lines: usize,
        /// Allowed share in percent.
        percent: f64,
        /// The first of them.
        first: MalformedLine,
    },
    /// A query line is no query.
    #[error("{}:{line}: not a query: {reason}; expected {{\"question\": …, \"id\": …}}", path.display())]
    Query {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No record in any file.
    #[error("the input holds no record")]
    Empty,
}
