//! Numbers that belong to one trained encoder.

use serde::Deserialize;

use crate::{ModelFiles, RetrieveError};

/// How an encoder's similarities are weighed and when they mean nothing; measured with `huatuo eval retrieval`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct Calibration {
    /// What one point of BM25 is worth beside e^(4 · cosine), see [`rank`](fn@crate::rank).
    pub lexical_weight: f32,
    /// A best record with a lower confidence is too far from the question to answer from.
    pub weak_below: f32,
}

impl Calibration {
    /// For an encoder that comes without a calibration: that of the default one.
    pub const NEUTRAL: Self = Self { lexical_weight: 0.22, weak_below: 0.3 };

    /// Reads `calibration.json`; an encoder without one gets [`Self::NEUTRAL`].
    pub fn from_files(files: &ModelFiles) -> Result<Self, RetrieveError> {
        match files.get("calibration.json") {
            Err(_) => Ok(Self::NEUTRAL),
            Ok(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| RetrieveError::BadFile { file: "calibration.json", reason: error.to_string() }),
        }
    }
}
