//! Readers of consultation records in every shape of Huatuo-26M, their cleaning, and the expansion of the sample
//! knowledge table.

mod compact_table;
mod error;
mod knowledge;
mod lines;
mod query;
mod reader;
mod record;
mod rows;
mod unique_ids;

pub use error::{DataError, FileFormat, MalformedLine};
pub use knowledge::{KnowledgeError, expand_knowledge};
pub use query::{Query, read_queries};
pub use reader::{Reading, RecordReader, read_records};
pub use record::{ParseError, SourceRecord, parse_record};
