//! What is told a client whose request can't be answered. Each variant knows its status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use huatuo_core::ConsultError;
use huatuo_generate::GenerateError;
use huatuo_retrieve::RetrieveError;
use serde::Serialize;
use utoipa::ToSchema;

use super::listening::Late;
use crate::consultations::RetrievalError;
use crate::generator::AnswerError;
use crate::models::ModelError;
use crate::scheduler::Busy;
use crate::upstream::{Deadline, UpstreamError};

/// One variant a failure that a client may treat differently.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// A field has a value that can't be right.
    #[error("`{field}` {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A field asks for what this server doesn't do.
    #[error("`{field}` is not supported: {instead}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The body is not the JSON that is expected.
    #[error("the body is not the JSON expected here: {0}")]
    Json(String),
    /// The body has another content type.
    #[error("the body's Content-Type is not application/json: send JSON")]
    ContentType,
    /// The prompt is longer than the model takes.
    #[error(
        "the prompt has {tokens} tokens and {asked} are asked for, the model takes {most} together: shorten one of them"
    )]
    ContextLength {
        /// Where the prompt stands.
        field: &'static str,
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of the answer.
        asked: usize,
        /// Tokens the model takes.
        most: usize,
    },
    /// No key, or a wrong one.
    #[error("an API key is needed: send `Authorization: Bearer …` with one of the worker's api_keys")]
    Key,
    /// The route is for another key.
    #[error("this route is for the operator: use one of the worker's admin_keys")]
    Admin,
    /// The Host header names another server.
    #[error("this Host is not allowed: reach the worker by a name of allowed_hosts")]
    Host,
    /// A page of this origin may not call.
    #[error("this Origin is not allowed: the operator can add it to allowed_origins")]
    Origin,
    /// There is no such route.
    #[error("there is no such route; GET /openapi.json lists them")]
    Route,
    /// The route has other methods.
    #[error("the route does not have this method; GET /openapi.json lists them")]
    Method,
    /// A model can't answer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The body is too large.
    #[error("the body has more than {0} bytes: shorten it")]
    TooLarge(usize),
    /// The body does not come.
    #[error("the body did not arrive within {0} ms")]
    SlowBody(u64),
    /// The queue is full.
    #[error("too many requests: try again in {retry_after} s")]
    Busy {
        /// Seconds.
        retry_after: u64,
    },
    /// The server is ending.
    #[error("the worker is ending: try another one")]
    Ending,
    /// A deadline has passed.
    #[error("{0}")]
    Late(&'static str),
    /// No upstream answers, or its answer made no sense.
    #[error("{0}")]
    Upstream(String),
    /// An upstream refused the request.
    #[error("the upstream refused the request: {0}")]
    Refused(String),
    /// The model stopped.
    #[error("the model stopped before the answer was complete: try again, or ask another worker")]
    Stopped,
    /// The index, or the server that it comes from, gives no references.
    #[error("no references could be read from the index: try again; the worker's log says why")]
    Index,
    /// The model failed.
    #[error("the answer could not be made: {0}")]
    Failed(String),
}

/// An error as OpenAI's clients read it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// What happened and what to do, in English.
    message: String,
    /// The kind of failure.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is wrong.
    param: Option<&'static str>,
    /// For programs.
    code: &'static str,
}

impl ApiError {
    /// A field whose value can't be right.
    pub fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Field { field, reason: reason.into() }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Field { .. }
            | Self::Unsupported { .. }
            | Self::Json(_)
            | Self::ContextLength { .. }
            | Self::Model(ModelError::Elsewhere { .. })
            | Self::Refused(_) => StatusCode::BAD_REQUEST,
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Admin | Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Route | Self::Model(ModelError::Unknown { .. }) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Model(_) | Self::Stopped | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(_) | Self::Index => StatusCode::BAD_GATEWAY,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What programs know it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field { .. } => "invalid_value",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::Json(_) => "invalid_json",
            Self::ContentType => "unsupported_media_type",
            Self::ContextLength { .. } => "context_length_exceeded",
            Self::Key => "invalid_api_key",
            Self::Admin => "admin_key_needed",
            Self::Host => "host_not_allowed",
            Self::Origin => "origin_not_allowed",
            Self::Route => "not_found",
            Self::Method => "method_not_allowed",
            Self::Model(ModelError::Unknown { .. }) => "model_not_found",
            Self::Model(ModelError::NotLoaded { .. } | ModelError::Loading { .. }) => "model_not_loaded",
            Self::Model(ModelError::Elsewhere { .. }) => "model_of_upstreams",
            Self::Model(ModelError::Failed { .. }) => "model_failed",
            Self::Model(ModelError::Stopped { .. }) | Self::Stopped => "model_stopped",
            Self::Index => "index_failed",
            Self::TooLarge(_) => "body_too_large",
            Self::SlowBody(_) => "body_timeout",
            Self::Busy { .. } => "queue_full",
            Self::Ending => "server_ending",
            Self::Late(_) => "deadline_exceeded",
            Self::Upstream(_) => "upstream_failed",
            Self::Refused(_) => "upstream_refused",
            Self::Failed(_) => "generation_failed",
        }
    }

    /// The body that goes with it, in a response or as the last event of a stream.
    pub fn body(&self) -> ErrorBody {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let param = match self {
            Self::Field { field, .. } | Self::Unsupported { field, .. } => Some(*field),
            Self::ContextLength { field, .. } => Some(*field),
            _ => None,
        };
        ErrorBody { error: ErrorDetail { message: self.to_string(), kind, param, code: self.code() } }
    }

    /// Seconds after which to try again.
    fn retry_after(&self) -> Option<u64> {
        const SOON: u64 = 1;
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::Model(ModelError::Loading { .. }) | Self::Ending => Some(SOON),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::Late(_) | Self::Model(ModelError::Failed { .. })) {
            // OpenAI's clients repeat what failed with 5xx: the same would take as long and fail again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if matches!(self, Self::Key) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Code(self.code()));
        response
    }
}

/// An error's code, for the log.
#[derive(Clone, Copy)]
pub struct Code(pub &'static str);

impl From<Busy> for ApiError {
    fn from(Busy { retry_after }: Busy) -> Self {
        Self::Busy { retry_after }
    }
}

impl From<Late> for ApiError {
    fn from(late: Late) -> Self {
        match late {
            Late::References => Self::Late("no references came within the deadline: try again, or ask another worker"),
            Late::FirstToken => Self::Late("no token came within the deadline: try again, or ask another worker"),
            Late::BetweenTokens => Self::Late("the next token did not come within the deadline"),
            Late::Total => Self::Late("the answer took longer than the deadline: ask for fewer tokens or texts"),
            Late::Ending => Self::Ending,
            Late::Stopped => Self::Stopped,
        }
    }
}

impl From<&GenerateError> for ApiError {
    fn from(error: &GenerateError) -> Self {
        match error {
            GenerateError::BadSampling { expected, value, .. } => {
                Self::Field { field: "sampling", reason: format!("is {value}, expected {expected}") }
            }
            GenerateError::ContextOverflow { tokens, context } => {
                Self::ContextLength { field: "question", tokens: *tokens, asked: 1, most: *context }
            }
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Generate(error) => Self::from(&*error),
            AnswerError::TooLong { tokens, most } => Self::ContextLength { field: "question", tokens, asked: 1, most },
            AnswerError::Upstream(error) => error.into(),
            AnswerError::Stopped => Self::Stopped,
        }
    }
}

impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Busy { retry_after } => Self::Busy { retry_after },
            UpstreamError::Refused(reason) => Self::Refused(reason),
            UpstreamError::Late(Deadline::FirstToken) => Late::FirstToken.into(),
            UpstreamError::Late(Deadline::BetweenTokens) => Late::BetweenTokens.into(),
            UpstreamError::Late(Deadline::Total) => Late::Total.into(),
            error => Self::Upstream(error.to_string()),
        }
    }
}

impl From<RetrieveError> for ApiError {
    fn from(error: RetrieveError) -> Self {
        match error {
            // Its address is the operator's matter, as those of upstreams are.
            RetrieveError::Index(error) => {
                tracing::warn!("the index failed: {error}");
                Self::Index
            }
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<RetrievalError> for ApiError {
    fn from(error: RetrievalError) -> Self {
        match error {
            RetrievalError::Busy => Self::Busy { retry_after: 1 },
            RetrievalError::Retrieve(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<ConsultError<RetrieveError, AnswerError>> for ApiError {
    fn from(error: ConsultError<RetrieveError, AnswerError>) -> Self {
        match error {
            ConsultError::Retrieve(error) => error.into(),
            ConsultError::Generate(error) => error.into(),
        }
    }
}

/// Every path that is no route.
pub async fn no_such_route() -> ApiError {
    ApiError::Route
}

/// Every method that a route doesn't have.
pub async fn no_such_method() -> ApiError {
    ApiError::Method
}
