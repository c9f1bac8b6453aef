//! Errors as JavaScript sees them: an `Error` with a `code`.

use huatuo_compute::ComputeError;
use huatuo_core::{ConsultError, QuestionError};
use huatuo_fetch::FetchError;
use huatuo_generate::GenerateError;
use huatuo_index::IndexError;
use huatuo_retrieve::RetrieveError;
use wasm_bindgen::JsValue;

/// A failure with the class that a page decides by.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// `question`, `options`, `network`, `ranges_ignored`, `not_found`, `corrupt`, `unsupported`, `storage` or
    /// `internal`.
    pub code: &'static str,
    /// What happened, to what, and what can be done.
    pub message: String,
}

impl EngineError {
    /// A call that came too early or twice.
    pub fn state(message: &str) -> Self {
        Self { code: "internal", message: message.to_owned() }
    }

    /// Options of a consultation that can't be right.
    pub fn options(message: String) -> Self {
        Self { code: "options", message }
    }

    /// A file that the heap has no room for.
    pub fn no_memory(path: &str, bytes: f64) -> Self {
        Self { code: "unsupported", message: format!("there is no memory for {path}, which has {bytes} bytes") }
    }

    /// The device's storage refused something.
    pub fn storage(message: String) -> Self {
        Self { code: "storage", message }
    }

    /// A file that holds something else than it should.
    pub fn corrupt(message: String) -> Self {
        Self { code: "corrupt", message }
    }
}

impl From<EngineError> for JsValue {
    fn from(error: EngineError) -> Self {
        let object = js_sys::Error::new(&error.message);
        // Setting a property of a fresh object can't fail.
        let _ = js_sys::Reflect::set(&object, &"code".into(), &error.code.into());
        object.into()
    }
}

impl From<QuestionError> for EngineError {
    fn from(error: QuestionError) -> Self {
        Self { code: "question", message: error.to_string() }
    }
}

impl From<IndexError> for EngineError {
    fn from(error: IndexError) -> Self {
        let code = match &error {
            IndexError::Fetch(cause) => fetch_code(cause),
            IndexError::VersionMix { .. } => "not_found",
            IndexError::UnsupportedVersion { .. } | IndexError::UnsupportedCodec { .. } => "unsupported",
            _ => "corrupt",
        };
        Self { code, message: error.to_string() }
    }
}

impl From<RetrieveError> for EngineError {
    fn from(error: RetrieveError) -> Self {
        match error {
            RetrieveError::Index(cause) => cause.into(),
            RetrieveError::EncoderMismatch { .. } => Self { code: "unsupported", message: error.to_string() },
            _ => Self::corrupt(error.to_string()),
        }
    }
}

impl From<GenerateError> for EngineError {
    fn from(error: GenerateError) -> Self {
        let code = match &error {
            GenerateError::UnsupportedArchitecture(_)
            | GenerateError::UnsupportedTokenizer { .. }
            | GenerateError::UnknownChatTemplate
            | GenerateError::NoRoom { .. } => "unsupported",
            GenerateError::ContextOverflow { .. } => "question",
            GenerateError::BadSampling { .. } => "options",
            GenerateError::Weights(
                ComputeError::DeviceLost | ComputeError::NoDevice { .. } | ComputeError::NoMemory { .. },
            ) => "unsupported",
            _ => "corrupt",
        };
        Self { code, message: error.to_string() }
    }
}

impl From<ConsultError<RetrieveError, GenerateError>> for EngineError {
    fn from(error: ConsultError<RetrieveError, GenerateError>) -> Self {
        match error {
            ConsultError::Retrieve(cause) => cause.into(),
            ConsultError::Generate(cause) => cause.into(),
        }
    }
}

fn fetch_code(error: &FetchError) -> &'static str {
    match error {
        FetchError::RangesIgnored { .. } | FetchError::Compressed { .. } => "ranges_ignored",
        FetchError::NotFound { .. } => "not_found",
        _ => "network",
    }
}
