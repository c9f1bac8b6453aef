//! One HTTP request: sent and read by a blocking client, on a thread of the pool.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use super::pool;
use crate::FetchError;
use crate::reply::{MAX_WHOLE_BYTES, check_body, check_head, range_header};

/// A host that does not answer within this time is reported, so that a caller can try again or give up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One client for all, so that connections are used again; as many are kept as requests are made at once.
static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(pool::THREADS)
        .max_idle_connections_per_host(pool::THREADS)
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT));
    config.build().new_agent()
});

/// Reads a URL whole or one range of it, without blocking the thread that awaits it.
pub(crate) async fn http_get(url: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
    let owned = url.to_owned();
    let failed = || FetchError::Network { url: url.to_owned(), detail: "the thread that read it failed".to_owned() };
    pool::run(move || get(&owned, range)).await.unwrap_or_else(|| Err(failed()))
}

fn get(url: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
    let network = |detail: String| FetchError::Network { url: url.to_owned(), detail };
    let mut request = AGENT.get(url);
    if let Some(range) = &range {
        request = request.header("range", range_header(range));
    }
    let response = request.call().map_err(|error| network(error.to_string()))?;
    let content_range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    check_head(url, response.status().as_u16(), content_range, range.as_ref())?;
    let limit = range.as_ref().map_or(MAX_WHOLE_BYTES, |range| range.end - range.start);
    let mut bytes = Vec::new();
    // One byte beyond the limit tells a body that is too long from one that fits.
    let body = response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
    match (body, &range) {
        (Err(error), Some(_)) if error.kind() == ErrorKind::UnexpectedEof => {
            check_body(url, bytes.len() as u64, range.as_ref())?;
        }
        (Err(error), _) => return Err(network(error.to_string())),
        (Ok(_), _) => check_body(url, bytes.len() as u64, range.as_ref())?,
    }
    Ok(bytes)
}
