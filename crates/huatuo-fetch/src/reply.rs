//! What an answer must look like before its body is read, and after. Shared by every platform.

use std::ops::Range;

use crate::FetchError;

/// Most bytes of a file that is read whole over HTTP; larger files are read by ranges.
pub const MAX_WHOLE_BYTES: u64 = 256 << 20;

/// The value of the `Range` header. One range a request: that needs no preflight across origins.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// Checks status and `Content-Range` (RFC 9110, sections 14.4 and 15.3.7) before a byte of the body is read.
pub(crate) fn check_head(
    url: &str,
    status: u16,
    content_range: Option<&str>,
    range: Option<&Range<u64>>,
) -> Result<(), FetchError> {
    match (status, range) {
        (200, None) => Ok(()),
        (200, Some(_)) => Err(FetchError::RangesIgnored { url: url.to_owned() }),
        (206, Some(range)) => check_content_range(url, content_range.unwrap_or_default(), range),
        (404 | 410, _) => Err(FetchError::NotFound { location: url.to_owned() }),
        // Range not satisfiable: the file ends before the range starts.
        (416, Some(range)) => {
            Err(FetchError::Truncated { location: url.to_owned(), expected: range.end - range.start, found: 0 })
        }
        (status, _) => Err(FetchError::Status { url: url.to_owned(), status }),
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

    #[test]
    fn only_the_exact_content_range_is_accepted() {
        let check = |header| check_head("u", 206, Some(header), Some(&(10..20)));
        assert_eq!(check("bytes 10-19/100"), Ok(()));
        assert_eq!(check("bytes 10-19/*"), Ok(()));
        for wrong in ["", "bytes 10-20/100", "bytes 0-9/100", "bytes 10-19/15", "bytes 10-19", "items 10-19/100"] {
            assert!(matches!(check(wrong), Err(FetchError::WrongRange { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_whole_file_is_no_answer_to_a_range() {
        let error = check_head("u", 200, None, Some(&(0..1)));
        assert_eq!(error, Err(FetchError::RangesIgnored { url: "u".into() }));
    }

    #[test]
    fn statuses_become_typed_errors() {
        assert!(matches!(check_head("u", 404, None, None), Err(FetchError::NotFound { .. })));
        assert!(matches!(check_head("u", 503, None, None), Err(FetchError::Status { status: 503, .. })));
        assert!(matches!(check_head("u", 206, None, None), Err(FetchError::Status { status: 206, .. })));
        assert!(matches!(check_head("u", 416, None, Some(&(5..9))), Err(FetchError::Truncated { expected: 4, .. })));
    }
}
