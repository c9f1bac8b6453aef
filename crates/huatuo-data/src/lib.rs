//! Readers of consultation records in every shape of Huatuo-26M, their cleaning, and the expansion of the sample
//! knowledge table.

mod clean_text;
mod cleaner;
mod compact_table;
mod comparable;
mod deduplicator;
mod drop_reason;
mod error;
mod knowledge;
mod lines;
mod markup;
mod min_hash;
mod query;
mod reader;
mod record;
mod report;
mod rows;
mod unique_ids;

pub use cleaner::{Cleaner, PreparedRecord};
pub use drop_reason::DropReason;
pub use error::{DataError, FileFormat, MalformedLine};
pub use knowledge::{KnowledgeError, expand_knowledge};
pub use query::{Query, read_queries};
pub use reader::{Reading, RecordReader, read_records};
pub use record::{ParseError, SourceRecord, parse_record};
pub use report::{DropExample, Dropped, Report};
