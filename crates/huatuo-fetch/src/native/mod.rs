//! The native platform: the file system, a blocking HTTP client, and the operating system's clock.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::reply::{MAX_WHOLE_BYTES, check_body, check_head, range_header};
use crate::{FetchError, Source};

/// A host that does not answer within this time is reported, so that a caller can try again or give up.
const TIMEOUT: Duration = Duration::from_secs(30);

static AGENT: LazyLock<ureq::Agent> = LazyLock::new(|| {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT));
    config.build().new_agent()
});

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn now_ms() -> f64 {
    START.elapsed().as_secs_f64() * 1000.0
}

impl Source {
    /// Files in a directory of the file system.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::in_directory(Directory(path.into()))
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
        let path = self.0.join(name);
        let location = path.display().to_string();
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => FetchError::NotFound { location: location.clone() },
            _ => FetchError::Io { path: location.clone(), detail: error.to_string() },
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        match &range {
            None => file.read_to_end(&mut bytes).map_err(failed)?,
            Some(range) => {
                file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
                let read = file.take(range.end - range.start).read_to_end(&mut bytes).map_err(failed)?;
                check_body(&location, read as u64, Some(range))?;
                read
            }
        };
        Ok(bytes)
    }
}

/// Reads a URL whole or one range of it; blocks the thread.
pub(crate) async fn http_get(url: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    #[test]
    fn a_directory_is_read_whole_and_by_ranges() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.bin"), b"0123456789").unwrap();
        let source = Source::directory(folder.path());
        assert_eq!(block_on(source.read("a.bin", None)).unwrap(), b"0123456789");
        assert_eq!(block_on(source.read("a.bin", Some(3..5))).unwrap(), b"34");
        assert!(matches!(block_on(source.read("a.bin", Some(8..12))), Err(FetchError::Truncated { found: 2, .. })));
        assert!(matches!(block_on(source.read("b.bin", None)), Err(FetchError::NotFound { .. })));
        assert!(matches!(block_on(source.read("../a.bin", None)), Err(FetchError::BadName { .. })));
    }
}
