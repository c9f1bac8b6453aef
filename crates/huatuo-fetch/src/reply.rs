//! What an answer must look like before its body is read, and after. Shared by every platform.

use std::ops::Range;

use crate::FetchError;
use crate::retry_after::retry_after_s;

/// Most bytes of a file that is read whole over HTTP; larger files are read by ranges.
pub const MAX_WHOLE_BYTES: u64 = 256 << 20;

/// The value of the `Range` header. One range a request: that needs no preflight across origins.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// What of an answer's head decides whether its body is read. Across origins a browser hides each of these headers
/// unless the server exposes it.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub status: u16,
    pub content_range: Option<String>,
    /// Only where the platform does not undo the encoding itself.
    pub content_encoding: Option<String>,
    pub retry_after_s: Option<u64>,
}

impl Head {
    /// Takes what is needed out of an answer's headers; `header` gives one by its lower-case name.
    pub fn new(status: u16, header: impl Fn(&str) -> Option<String>) -> Self {
        let seconds = |value: String| retry_after_s(&value, header("date").as_deref());
        Self {
            status,
            content_range: header("content-range"),
            content_encoding: header("content-encoding"),
            retry_after_s: header("retry-after").and_then(seconds),
        }
    }
}

/// Checks status, `Content-Encoding` and `Content-Range` (RFC 9110, sections 8.4, 14.4 and 15) before a byte of the body
/// is read.
pub(crate) fn check_head(url: &str, head: &Head, range: Option<&Range<u64>>) -> Result<(), FetchError> {
    let url = || url.to_owned();
    match (head.status, range) {
        (200, None) => check_encoding(&url(), head),
        (200, Some(_)) => Err(FetchError::RangesIgnored { url: url() }),
        (206, Some(range)) => {
            check_encoding(&url(), head)?;
            check_content_range(&url(), head.content_range.as_deref().unwrap_or_default(), range)
        }
        (status @ (401 | 403), _) => Err(FetchError::Forbidden { url: url(), status }),
        (404 | 410, _) => Err(FetchError::NotFound { location: url() }),
        // Range not satisfiable: the file ends before the range starts.
        (416, Some(range)) => {
            Err(FetchError::Truncated { location: url(), expected: range.end - range.start, found: 0 })
        }
        (status @ (429 | 503), _) => Err(FetchError::Busy { url: url(), status, retry_after_s: head.retry_after_s }),
        (status @ 500..=599, _) => Err(FetchError::ServerFailed { url: url(), status }),
        (status, _) => Err(FetchError::Status { url: url(), status }),
    }
}

fn check_encoding(url: &str, head: &Head) -> Result<(), FetchError> {
    match head.content_encoding.as_deref().map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(encoding) => Err(FetchError::Compressed { url: url.to_owned(), encoding: encoding.to_owned() }),
    }
}

fn check_content_range(url: &str, found: &str, range: &Range<u64>) -> Result<(), FetchError> {
    let expected = format!("{}-{}", range.start, range.end - 1);
    let sent = found.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let total_fits = |total: &str| total == "*" || total.parse::<u64>().is_ok_and(|total| total >= range.end);
    match sent {
        Some((part, total)) if part.trim() == expected && total_fits(total.trim()) => Ok(()),
        _ => Err(FetchError::WrongRange { url: url.to_owned(), expected, found: found.to_owned() }),
    }
}

/// Checks that a body has exactly the bytes asked for, or that a whole file is not too large.
pub(crate) fn check_body(location: &str, found: u64, range: Option<&Range<u64>>) -> Result<(), FetchError> {
    let limit = range.map_or(MAX_WHOLE_BYTES, |range| range.end - range.start);
    match range {
        _ if found > limit => Err(FetchError::TooLarge { location: location.to_owned(), limit }),
        Some(_) if found < limit => {
            Err(FetchError::Truncated { location: location.to_owned(), expected: limit, found })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, header: (&str, &str), range: Option<Range<u64>>) -> Result<(), FetchError> {
        let head = Head::new(status, |name| (name == header.0).then(|| header.1.to_owned()));
        check_head("u", &head, range.as_ref())
    }

    fn status(status: u16) -> FetchError {
        check(status, ("", ""), None).unwrap_err()
    }

    #[test]
    fn only_the_exact_content_range_is_accepted() {
        let check = |value| check(206, ("content-range", value), Some(10..20));
        assert_eq!(check("bytes 10-19/100"), Ok(()));
        assert_eq!(check("bytes 10-19/*"), Ok(()));
        for wrong in ["", "bytes 10-20/100", "bytes 0-9/100", "bytes 10-19/15", "bytes 10-19", "items 10-19/100"] {
            assert!(matches!(check(wrong), Err(FetchError::WrongRange { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_whole_file_is_no_answer_to_a_range() {
        let error = check(200, ("", ""), Some(0..1));
        assert_eq!(error, Err(FetchError::RangesIgnored { url: "u".into() }));
    }

    #[test]
    fn a_compressed_range_is_refused_whatever_its_content_range_says() {
        let error = check(206, ("content-encoding", "gzip"), Some(0..1));
        assert_eq!(error, Err(FetchError::Compressed { url: "u".into(), encoding: "gzip".into() }));
        assert_eq!(check(200, ("content-encoding", "identity"), None), Ok(()));
    }

    #[test]
    fn statuses_become_typed_errors() {
        assert!(matches!(status(401), FetchError::Forbidden { status: 401, .. }));
        assert!(matches!(status(403), FetchError::Forbidden { status: 403, .. }));
        assert!(matches!(status(404), FetchError::NotFound { .. }));
        assert!(matches!(status(429), FetchError::Busy { status: 429, retry_after_s: None, .. }));
        assert!(matches!(status(502), FetchError::ServerFailed { status: 502, .. }));
        assert!(matches!(status(206), FetchError::Status { status: 206, .. }));
        assert!(matches!(status(418), FetchError::Status { status: 418, .. }));
        let beyond = check(416, ("", ""), Some(5..9));
        assert!(matches!(beyond, Err(FetchError::Truncated { expected: 4, found: 0, .. })));
    }

    #[test]
    fn a_busy_server_says_how_long_to_wait() {
        let error = check(503, ("retry-after", "7"), None).unwrap_err();
        assert!(error.to_string().ends_with("try again in 7 s"), "{error}");
    }
}
