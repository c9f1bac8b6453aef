//! What an answer is grounded in.

/// One retrieved physician consultation or knowledge record, as shown to the patient and to the generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The record's identifier in its corpus.
    pub id: String,
    /// The question the record answers.
    pub question: String,
    /// The physician's answer.
    pub answer: String,
    /// Where the record comes from, such as a corpus name or a URL.
    pub source: String,
    /// Hospital department, empty when the corpus gives none.
    pub department: String,
    /// Diseases the record is about.
    pub related_diseases: Vec<String>,
    /// Fused retrieval score in 0 to 1, higher is closer.
    pub score: f32,
}
