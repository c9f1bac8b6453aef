//! Why a record is left out of an index.

/// Why a cleaner drops a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// No wording has a letter or digit once it is cleaned.
    #[error("no question is left")]
    NoQuestion,
    /// The answer has no letter or digit once it is cleaned, and there is no URL.
    #[error("no answer and no URL is left")]
    NoAnswer,
    /// Longer than a reader would be shown.
    #[error("{bytes} bytes of question and answer, at most {limit} are kept")]
    TooLong {
        /// Questions and answer, in bytes of UTF-8.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Question and answer are those of an earlier record, up to case, width, white space and punctuation.
    #[error("duplicate of record {of}")]
    Duplicate {
        /// Number of the earlier record among those kept, from 0.
        of: u32,
    },
    /// Question and answer are each almost those of an earlier record, with the same numbers.
    #[error("near-duplicate of record {of}")]
    NearDuplicate {
        /// Number of the earlier record among those kept, from 0.
        of: u32,
    },
}

impl DropReason {
    /// The reason without what is particular to the record.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoQuestion => "no question",
            Self::NoAnswer => "no answer",
            Self::TooLong { .. } => "too long",
            Self::Duplicate { .. } => "duplicate",
            Self::NearDuplicate { .. } => "near-duplicate",
        }
    }

    /// The number of the kept record that says the same.
    pub fn kept(&self) -> Option<u32> {
        match self {
            Self::Duplicate { of } | Self::NearDuplicate { of } => Some(*of),
            _ => None,
        }
    }
}
