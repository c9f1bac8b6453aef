//! Questions of an evaluation, each with the record that it should find.

use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;
use crate::lines::Lines;

/// A question of an evaluation with the record it should find.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Query {
    /// The question.
    pub question: String,
    /// Identifier of the record.
    pub id: String,
}

/// Reads `{"question", "id"}` lines; every line must be one.
///
/// # Errors
/// [`DataError::Query`] for a line that is none, with its number; [`DataError::Read`] and [`DataError::Damaged`] for
/// the file.
pub fn read_queries(path: &Path) -> Result<Vec<Query>, DataError> {
    let mut lines = Lines::open(path)?;
    let mut queries = Vec::new();
    while let Some((number, line)) = lines.next_line()? {
        let failed = |reason: String| DataError::Query { path: path.to_owned(), line: number, reason };
        let line = line.map_err(|error| failed(error.to_string()))?;
        queries.push(serde_json::from_str(line).map_err(|error| failed(error.to_string()))?);
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_a_line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        std::fs::write(&path, "{\"question\":\"头痛\",\"id\":\"1\"}\n").unwrap();
        assert_eq!(read_queries(&path).unwrap()[0].id, "1");
        std::fs::write(&path, "{\"question\":\"头痛\"}\n").unwrap();
        assert!(read_queries(&path).unwrap_err().to_string().contains("q.jsonl:1"));
    }
}
