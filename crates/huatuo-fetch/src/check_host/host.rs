//! The host under test: requests with chosen headers, and all that is answered.

use std::ops::Range;
use std::time::Duration;

use ureq::http::HeaderMap;

use crate::FetchError;
use crate::platform::{head, read_body, send};
use crate::reply::{Head, check_body, check_head, range_header};

/// The origin that questions about CORS are asked from; its domain is reserved for such uses (RFC 2606).
pub(super) const ORIGIN: &str = "https://example.org";

/// A folder on a live host.
pub(super) struct Host {
    base_url: String,
    silence: Duration,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub head: Head,
    pub headers: HeaderMap,
    /// The body up to the limit given.
    pub body: Result<Vec<u8>, FetchError>,
}

impl Host {
    pub fn new(url: &str, silence: Duration) -> Self {
        Self { base_url: url.trim_end_matches('/').to_owned(), silence }
    }

    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base_url)
    }

    /// Asks for a file whole and takes no more than `limit` bytes of it.
    pub fn get(&self, name: &str, headers: &[(&str, &str)], limit: u64) -> Result<Answer, FetchError> {
        let url = self.url(name);
        let response = send(&url, headers, self.silence)?;
        let (head, headers) = (head(&response), response.headers().clone());
        let body = read_body(&url, response.into_body(), limit, None, self.silence);
        Ok(Answer { head, headers, body })
    }

    /// Asks for a range and refuses the answer where a reader would; its body is then not read.
    pub fn range(&self, name: &str, range: &Range<u64>, headers: &[(&str, &str)]) -> Result<Answer, FetchError> {
        let (url, value) = (self.url(name), range_header(range));
        let response = send(&url, &[headers, &[("range", &value)]].concat(), self.silence)?;
        let (head, headers) = (head(&response), response.headers().clone());
        let body = check_head(&url, &head, Some(range)).and_then(|()| {
            // One byte beyond the limit tells a body that is too long from one that fits.
            let limit = range.end - range.start + 1;
            let bytes = read_body(&url, response.into_body(), limit, Some(range), self.silence)?;
            check_body(&url, bytes.len() as u64, Some(range))?;
            Ok(bytes)
        });
        Ok(Answer { head, headers, body })
    }
}

impl Answer {
    /// Whether it is about the file: an error page has headers of its own.
    pub fn is_success(&self) -> bool {
        matches!(self.head.status, 200 | 206)
    }

    /// A header's values in lower case, joined as one list; `None` if there is none.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(",").to_ascii_lowercase())
    }

    /// Whether a header's list names an item.
    pub fn lists(&self, name: &str, item: &str) -> bool {
        self.header(name).is_some_and(|list| list.split(',').any(|listed| listed.trim() == item))
    }
}
