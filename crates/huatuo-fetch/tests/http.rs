//! HTTP reads against a mock host, well and badly behaved.
#![allow(clippy::unwrap_used)]

mod range_server;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use huatuo_fetch::{Counters, FetchError, Source};
use pollster::block_on;
use range_server::{Behaviour, RangeServer};

fn server(behaviour: Behaviour) -> (RangeServer, Source) {
    let server = RangeServer::start([("a/b.bin".to_owned(), (0..=255).collect())].into(), behaviour);
    let source = Source::http(format!("{}/", server.url));
    (server, source)
}

fn read_range(behaviour: Behaviour) -> FetchError {
    block_on(server(behaviour).1.read("a/b.bin", Some(100..200))).unwrap_err()
}

#[test]
fn whole_files_and_ranges_are_read_and_counted() {
    let (server, source) = server(Behaviour::Correct);
    assert_eq!(block_on(source.read("a/b.bin", Some(100..103))).unwrap(), [100, 101, 102]);
    assert_eq!(block_on(source.read("a/b.bin", None)).unwrap().len(), 256);
    assert_eq!(source.counters(), Counters { bytes: 259, requests: 2 });
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_server_without_ranges_is_refused_before_its_body() {
    assert!(
        matches!(read_range(Behaviour::IgnoresRanges), FetchError::RangesIgnored { url } if url.ends_with("a/b.bin"))
    );
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let error = read_range(Behaviour::ShiftsRanges);
    assert!(matches!(error, FetchError::WrongRange { expected, found, .. }
        if expected == "100-199" && found == "bytes 101-200/256"));
}

#[test]
fn a_body_cut_off_is_truncated() {
    assert!(matches!(read_range(Behaviour::CutsBodies), FetchError::Truncated { expected: 100, found: 50, .. }));
}

#[test]
fn a_missing_file_is_not_found_and_a_failing_server_says_its_status() {
    let (_server, source) = server(Behaviour::Correct);
    assert!(matches!(block_on(source.read("none", None)), Err(FetchError::NotFound { .. })));
    assert!(matches!(read_range(Behaviour::Fails(500)), FetchError::ServerFailed { status: 500, .. }));
    assert!(matches!(read_range(Behaviour::Fails(403)), FetchError::Forbidden { status: 403, .. }));
}

#[test]
fn a_compressed_range_is_refused_before_its_body() {
    let error = read_range(Behaviour::Compresses { unasked: true });
    assert!(matches!(error, FetchError::Compressed { encoding, .. } if encoding == "gzip"));
    let (_server, source) = server(Behaviour::Compresses { unasked: false });
    assert_eq!(block_on(source.read("a/b.bin", Some(100..103))).unwrap(), [100, 101, 102]);
}

#[test]
fn reads_awaited_together_overlap_and_use_connections_again() {
    let (server, source) = server(Behaviour::Delays(100));
    for _ in 0..2 {
        let start = Instant::now();
        let reads = block_on(join_all((0..16).map(|i| source.read("a/b.bin", Some(i..i + 2)))));
        assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
        for (i, read) in (0..).zip(reads) {
            assert_eq!(read.unwrap(), [i, i + 1]);
        }
    }
    assert_eq!(server.requests(), 32);
    assert_eq!(server.connections(), 16);
}

#[test]
fn no_server_at_all_is_a_network_error() {
    // Port 9 (discard) is not served here.
    let error = block_on(Source::http("http://127.0.0.1:9").read("a", None)).unwrap_err();
    assert!(matches!(&error, FetchError::Network { url, .. } if url == "http://127.0.0.1:9/a"), "{error}");
}
