//! What can go wrong past one machine.

use datafusion::error::DataFusionError;
use huatuo_index::IndexError;
use huatuo_retrieve::RetrieveError;

/// Errors of building on a cluster and of uploading, each saying what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The index could not be built.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The encoder could not be loaded, or could not embed.
    #[error("the encoder: {0}")]
    Encoder(#[from] RetrieveError),
    /// A process does not see the client's folder.
    #[error(
        "{folder} is not there: scheduler, executors and client must share the index's folder under the same path, \
         for example as a network file system"
    )]
    NotShared {
        /// The folder or file that is missing.
        folder: String,
    },
    /// A process sees other content than the client left.
    #[error("{what} is not what the client left: the shared folder lags behind, or another build writes to it")]
    OtherContent {
        /// What was compared.
        what: String,
    },
    /// A file of the work folder that this crate writes can't be read.
    #[error("{path} can't be read ({detail}): delete the index's .build folder and start again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The address of a scheduler or a store.
    #[error("{given:?} is not an address ({detail}): give one like {example}")]
    Address {
        /// What was given.
        given: String,
        /// What is wrong.
        detail: String,
        /// A correct one.
        example: &'static str,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A stage could not be run.
    #[error("the stage {stage} failed: {source}. Start the same command again: what is done is kept")]
    Stage {
        /// Name of the stage.
        stage: String,
        /// What DataFusion or Ballista said.
        source: DataFusionError,
    },
    /// Tasks of a stage gave no outcome.
    #[error(
        "the stage {stage} gave {found} outcomes for {expected} tasks. Start the same command again: what is done is kept"
    )]
    Outcomes {
        /// Name of the stage.
        stage: String,
        /// Number of tasks.
        expected: usize,
        /// Number of outcomes.
        found: usize,
    },
    /// A scheduler or executor process could not be started, or ended.
    #[error("the {process}: {detail}")]
    Process {
        /// Scheduler or executor.
        process: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A file that the manifest names is not in the folder.
    #[error(
        "{file} is not in {folder} as the manifest describes it: run `huatuo index verify`, or build the index again"
    )]
    Incomplete {
        /// The pack.
        file: String,
        /// The index's folder.
        folder: String,
    },
    /// The object store did not take or give a file.
    #[error("{file}: {source}. Check the AWS_* variables and the bucket; a second upload sends only what is missing")]
    Store {
        /// The file, or the store's address.
        file: String,
        /// What the store said.
        source: object_store::Error,
    },
}

impl ClusterError {
    /// Whether the same may succeed at another time or on another machine.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Index(error) => error.is_transient(),
            Self::OtherContent { .. } | Self::File { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    pub(crate) fn damaged(path: &std::path::Path, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.display().to_string(), detail: detail.to_string() }
    }
}

/// Ballista tries a task again that failed with an I/O error, and gives the job up for any other.
impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        match error.is_transient() {
            true => Self::IoError(std::io::Error::other(error)),
            false => Self::External(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_an_io_error() {
        let disk = IndexError::Write { path: "/shared/rows".to_owned(), detail: "stale handle".to_owned() };
        let lags = ClusterError::OtherContent { what: "order".to_owned() };
        for error in [disk.into(), lags] {
            assert!(matches!(DataFusionError::from(error), DataFusionError::IoError(_)));
        }
        let wrong = IndexError::NotFinite { position: 3 };
        let elsewhere = ClusterError::NotShared { folder: "/shared".to_owned() };
        for error in [wrong.into(), elsewhere] {
            assert!(matches!(DataFusionError::from(error), DataFusionError::External(_)));
        }
    }
}
