//! One HTTP request: sent and read by a blocking client, on a thread of the pool.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Body, Timeout};

use super::pool;
use crate::FetchError;
use crate::reply::{Head, MAX_WHOLE_BYTES, check_body, check_head, range_header};

/// One client for all, so that connections are used again; as many are kept as requests are made at once.
static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(pool::THREADS)
        .max_idle_connections_per_host(pool::THREADS);
    config.build().new_agent()
});

/// Reads a URL whole or one range of it, without blocking the thread that awaits it.
pub(crate) async fn http_get(url: &str, range: Option<Range<u64>>, silence: Duration) -> Result<Vec<u8>, FetchError> {
    let owned = url.to_owned();
    let read = pool::run(move || get(&owned, range.as_ref(), silence)).await;
    read.unwrap_or_else(|| Err(network(url, "the thread that read it failed".to_owned())))
}

fn get(url: &str, range: Option<&Range<u64>>, silence: Duration) -> Result<Vec<u8>, FetchError> {
    let range_value = range.map(range_header);
    // Nothing here undoes a compression.
    let mut headers = vec![("accept-encoding", "identity")];
    headers.extend(range_value.as_deref().map(|value| ("range", value)));
    let response = send(url, &headers, silence)?;
    check_head(url, &head(&response), range)?;
    let limit = range.map_or(MAX_WHOLE_BYTES, |range| range.end - range.start);
    // One byte beyond the limit tells a body that is too long from one that fits.
    let bytes = read_body(url, response.into_body(), limit + 1, range, silence)?;
    check_body(url, bytes.len() as u64, range)?;
    Ok(bytes)
}

/// Sends a request and waits for the head of its answer.
pub(crate) fn send(url: &str, headers: &[(&str, &str)], silence: Duration) -> Result<Response<Body>, FetchError> {
    let mut request = AGENT.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.config().timeout_connect(Some(silence)).timeout_recv_response(Some(silence));
    let request = request.timeout_per_read(Some(silence)).build();
    request.call().map_err(|error| failed(url, error, silence, 0))
}

/// Reads a body, or its first `limit` bytes.
pub(crate) fn read_body(
    url: &str,
    body: Body,
    limit: u64,
    range: Option<&Range<u64>>,
    silence: Duration,
) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    match body.into_reader().take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let received = bytes.len() as u64;
            if error.kind() == ErrorKind::UnexpectedEof {
                check_body(url, received, range)?;
            }
            Err(failed(url, error.into(), silence, received))
        }
    }
}

/// What of an answer's head matters to a reader.
pub(crate) fn head(response: &Response<Body>) -> Head {
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    Head::new(response.status().as_u16(), header)
}

fn failed(url: &str, error: ureq::Error, silence: Duration, received: u64) -> FetchError {
    match error {
        ureq::Error::Timeout(Timeout::PerRead | Timeout::RecvResponse) => {
            FetchError::Stalled { url: url.to_owned(), silent_ms: silence.as_millis() as u64, received }
        }
        error => network(url, error.to_string()),
    }
}

fn network(url: &str, detail: String) -> FetchError {
    FetchError::Network { url: url.to_owned(), detail }
}
