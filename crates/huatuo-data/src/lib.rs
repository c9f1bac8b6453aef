//! Readers of consultation records in every shape of Huatuo-26M, and the expansion of the sample knowledge table.

mod file;
mod knowledge;
mod record;

pub use file::{DataError, MalformedLine, Reading, read_queries, read_records};
pub use knowledge::{KnowledgeError, expand_knowledge};
pub use record::{ParseError, Query, SourceRecord, parse_record};
