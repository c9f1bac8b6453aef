//! A place that files are read from, whole or by ranges of bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::name::check_name;
use crate::patience::Patience;
use crate::{FetchError, http, platform, reply};

/// A place that files are read from. A clone is cheap and shares its counters.
#[derive(Clone, Debug)]
pub struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    bytes: AtomicU64,
    requests: AtomicU64,
}

#[derive(Debug)]
enum Place {
    Memory(BTreeMap<String, Vec<u8>>),
    Directory(platform::Directory),
    Http { base_url: String, patience: Patience },
}

/// What was read so far through a [`Source`] and all its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes of content received, headers not counted.
    pub bytes: u64,
    /// Reads made, failed ones included.
    pub requests: u64,
}

impl Source {
    /// Files held in memory, by name.
    pub fn memory(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self::new(Place::Memory(files.into_iter().collect()))
    }

    /// Files under a URL on a static host that answers range requests; `base_url` may end with a slash.
    pub fn http(base_url: impl Into<String>) -> Self {
        Self::http_with(base_url.into(), Patience::default())
    }

    /// As [`Self::http`], with other times to wait than a user has.
    pub(crate) fn http_with(base_url: String, patience: Patience) -> Self {
        Self::new(Place::Http { base_url: base_url.trim_end_matches('/').to_owned(), patience })
    }

    /// Files in a directory; each platform that has any offers its own constructor.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "a browser has no directories"))]
    pub(crate) fn in_directory(directory: platform::Directory) -> Self {
        Self::new(Place::Directory(directory))
    }

    fn new(place: Place) -> Self {
        Self(Arc::new(Inner { place, bytes: AtomicU64::new(0), requests: AtomicU64::new(0) }))
    }

    /// Reads a file whole, or the bytes `range.start..range.end` of it, never fewer.
    ///
    /// Reads over HTTP that are awaited together overlap, natively 32 at most; those of directories and memory are made
    /// on the caller's thread. A host that is busy is asked twice more. Dropping the future aborts the request on the web;
    /// natively one that has not begun is never made, and one that has is finished for nobody. An empty range gives no
    /// bytes without a request.
    ///
    /// # Errors
    /// [`FetchError`] as each variant says; for a range of a file that ends too early [`FetchError::Truncated`], or
    /// [`FetchError::WrongRange`] from a server that shortens the range.
    pub async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, FetchError> {
        check_name(name)?;
        if let Some(Range { start, end }) = range {
            if start > end {
                return Err(FetchError::BadRange { name: name.to_owned(), start, end });
            }
            if start == end {
                return Ok(Vec::new());
            }
        }
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = match &self.0.place {
            Place::Memory(files) => read_memory(files, name, range)?,
            Place::Directory(directory) => directory.read(name, range)?,
            Place::Http { base_url, patience } => http::get(&format!("{base_url}/{name}"), range, patience).await?,
        };
        self.0.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// What was read so far, by this source and its clones.
    pub fn counters(&self) -> Counters {
        Counters { bytes: self.0.bytes.load(Ordering::Relaxed), requests: self.0.requests.load(Ordering::Relaxed) }
    }
}

fn read_memory(
    files: &BTreeMap<String, Vec<u8>>,
    name: &str,
    range: Option<Range<u64>>,
) -> Result<Vec<u8>, FetchError> {
    let file = files.get(name).ok_or_else(|| FetchError::NotFound { location: name.to_owned() })?;
    let Some(range) = range else { return Ok(file.clone()) };
    let size = file.len() as u64;
    let (start, end) = (range.start.min(size), range.end.min(size));
    reply::check_body(name, end - start, Some(&range))?;
    // Both fit usize: they are at most the length of a slice.
    Ok(file[start as usize..end as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    fn source() -> Source {
        Source::memory([("a.bin".to_owned(), (0..100).collect())])
    }

    #[test]
    fn a_range_is_read_exactly_and_counted() {
        let source = source();
        assert_eq!(block_on(source.read("a.bin", Some(10..13))).unwrap(), [10, 11, 12]);
        assert_eq!(block_on(source.clone().read("a.bin", None)).unwrap().len(), 100);
        assert_eq!(source.counters(), Counters { bytes: 103, requests: 2 });
    }

    #[test]
    fn an_empty_range_costs_nothing() {
        let source = source();
        assert!(block_on(source.read("a.bin", Some(5..5))).unwrap().is_empty());
        assert_eq!(source.counters().requests, 0);
    }

    #[test]
    fn a_range_beyond_the_end_is_truncated_and_a_reversed_one_refused() {
        let (beyond, reversed) = (Some(90..110), Some(Range { start: 9, end: 3 }));
        let error = block_on(source().read("a.bin", beyond)).unwrap_err();
        assert_eq!(error, FetchError::Truncated { location: "a.bin".into(), expected: 20, found: 10 });
        let error = block_on(source().read("a.bin", reversed)).unwrap_err();
        assert!(matches!(error, FetchError::BadRange { start: 9, end: 3, .. }));
    }

    #[test]
    fn a_missing_file_is_not_found() {
        assert!(matches!(block_on(source().read("b.bin", None)), Err(FetchError::NotFound { .. })));
    }
}
