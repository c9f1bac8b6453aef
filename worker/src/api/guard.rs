//! What every request passes: Host, Origin and key, then a line in the log. Only the routes of health need no key.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::error::Code;
use super::{ApiError, App};
use crate::config::ApiKey;
use crate::scheduler::Scope;
use crate::traces::{STATUS, Span};

/// Routes without a key, whole and exact: an orchestrator's probes carry none and use the pod's address as Host.
const OPEN_ROUTES: [&str; 3] = ["/health", "/health/live", "/health/ready"];
/// The header that carries a request's identifier.
const REQUEST_ID: &str = "x-request-id";

/// What pages may send; the names in `x-stainless` are OpenAI's client's.
const ALLOWED_HEADERS: &str = "authorization, content-type, x-request-id, x-stainless-arch, x-stainless-helper-method, \
     x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, \
     x-stainless-runtime-version, x-stainless-timeout";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What tells one key's texts from another's.
    pub scope: Scope,
    /// Whether models may be loaded and let go.
    pub is_admin: bool,
    /// Identifier of the request.
    pub request_id: String,
    /// Its span, which ends when its answer does.
    pub span: Span,
}

/// Keys that clients may use; only their hashes are kept.
pub struct Keys(Option<Vec<Key>>);

struct Key {
    hash: [u8; 32],
    is_admin: bool,
}

/// Whose a key is.
#[derive(Clone, Copy)]
struct Holder {
    scope: Scope,
    is_admin: bool,
}

impl Keys {
    /// Accepts these keys, the latter for everything.
    pub fn new(keys: &[ApiKey], admin_keys: &[ApiKey]) -> Self {
        let key = |key: &ApiKey, is_admin| Key { hash: hash(key.0.as_bytes()), is_admin };
        let clients = keys.iter().map(|client| key(client, false));
        Self(Some(clients.chain(admin_keys.iter().map(|admin| key(admin, true))).collect()))
    }

    /// Accepts everybody.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whose a presented key is. Takes as long for a wrong key as for a right one, whichever it is.
    fn check(&self, headers: &HeaderMap) -> Option<Holder> {
        let Some(keys) = &self.0 else { return Some(Holder { scope: Scope(1), is_admin: true }) };
        let value = headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        let (scheme, presented) = value.split_at_checked("Bearer ".len()).unwrap_or((&[], &[]));
        let presented = hash(presented);
        let (mut found, mut is_admin) = (Choice::from(0), Choice::from(0));
        for key in keys {
            let is_it = key.hash.ct_eq(&presented);
            found |= is_it;
            is_admin |= is_it & Choice::from(u8::from(key.is_admin));
        }
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        let [a, b, c, d, e, f, g, h, ..] = presented;
        let scope = Scope(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1);
        (bool::from(found) && is_bearer).then(|| Holder { scope, is_admin: bool::from(is_admin) })
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets a request through, or says why not; counts and logs it either way.
pub async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Before it is looked at whether the worker is ending: who finds that it is not is waited for.
    let _under_way = app.under_way.subscribe();
    let request_id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    // Probes come every second and tell nothing.
    let span = match is_open(&request) {
        true => Span::default(),
        false => app.traces.request(known(&method), &route, request.headers()),
    };
    let mut response = match admit(&app, &request) {
        Ok(Admitted::Preflight) => StatusCode::NO_CONTENT.into_response(),
        Ok(Admitted::Caller(Holder { scope, is_admin })) => {
            let caller = Caller { scope, is_admin, request_id: request_id.clone(), span: span.clone() };
            request.extensions_mut().insert(caller);
            match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                Err(_) => ApiError::Failed("the worker's log says where".to_owned()).into_response(),
            }
        }
        Err(error) => error.into_response(),
    };
    let status = response.status();
    let allowed = origin.filter(|origin| is_allowed_origin(&app, origin));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = allowed {
        add_cors(headers, origin, method == Method::OPTIONS);
    }
    app.metrics.count_request(&route, status.as_u16());
    let error = response.extensions().get::<Code>().map(|code| code.0);
    // The route as it was declared: neither path nor query nor body of a request is ever written.
    let (method, status, ms) = (known(&method), status.as_u16(), started.elapsed().as_millis() as u64);
    span.note("http.request.method", method);
    span.note(STATUS, i64::from(status));
    span.note("huatuo.request_id", request_id.clone());
    if let Some(code) = error {
        span.fail(code);
    }
    tracing::info!(request_id, method, route, status, ms, error, "request");
    response
}

enum Admitted {
    Preflight,
    Caller(Holder),
}

fn is_open(request: &Request) -> bool {
    OPEN_ROUTES.contains(&request.uri().path())
}

fn admit(app: &App, request: &Request) -> Result<Admitted, ApiError> {
    if is_open(request) {
        return Ok(Admitted::Caller(Holder { scope: Scope(1), is_admin: false }));
    }
    if !is_allowed_host(app, request) {
        return Err(ApiError::Host);
    }
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN) {
        if !is_allowed_origin(app, origin) {
            return Err(ApiError::Origin);
        }
        // A browser asks before it sends a key.
        if request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return Ok(Admitted::Preflight);
        }
    }
    let holder = app.keys.check(headers).ok_or(ApiError::Key)?;
    match app.draining.load(Ordering::Acquire) && request.method() == Method::POST {
        true => Err(ApiError::Ending),
        false => Ok(Admitted::Caller(holder)),
    }
}

/// A method as it is logged: HTTP lets clients make up others, with anything in their names.
fn known(method: &Method) -> &'static str {
    const METHODS: [&str; 9] = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"];
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Whether the request was meant for this server: a page of another site that had its name point here says its own name.
fn is_allowed_host(app: &App, request: &Request) -> bool {
    let mut named = request.headers().get_all(header::HOST).iter();
    let host = match (request.uri().authority(), named.next(), named.next()) {
        (Some(authority), _, _) => authority.host().to_owned(), // HTTP/2
        (None, Some(host), None) => {
            let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            authority.map(|authority| authority.host().to_owned()).unwrap_or_default()
        }
        _ => return false,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let listened = app.config.listen.ip();
    let is_own = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str())
        || (!listened.is_unspecified() && host == listened.to_string());
    is_own || app.config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&host))
}

fn is_allowed_origin(app: &App, origin: &HeaderValue) -> bool {
    app.config.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
}

/// Never credentials, never an origin that is not on the list.
fn add_cors(headers: &mut HeaderMap, origin: HeaderValue, is_preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, retry-after, x-vercel-ai-ui-message-stream"),
    );
    if is_preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

/// The client's identifier where it is a plain one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    const LONGEST: usize = 64;
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    given.filter(is_plain).map(str::to_owned).unwrap_or_else(|| random_id("req"))
}

/// An identifier that nobody can guess.
pub fn random_id(prefix: &str) -> String {
    // Without random numbers no key could have been made up and no TLS been spoken either.
    let bits = getrandom::u64().unwrap_or_default();
    format!("{prefix}-{bits:016x}")
}

/// A key for a start without any.
pub fn random_key() -> Result<ApiKey, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(ApiKey(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}
