//! What a reader makes of hosts that make it wait, with shorter times than a user has.

#[path = "../../tests/range_server/mod.rs"]
pub(crate) mod range_server;

use std::time::{Duration, Instant};

use pollster::block_on;

use crate::patience::Patience;
use crate::{FetchError, Source};
use range_server::{Behaviour, RangeServer};

pub(crate) const PATIENCE: Patience = Patience {
    silence: Duration::from_millis(300),
    backoff: Duration::from_millis(20),
    longest_wait: Duration::from_secs(1),
};

fn read(behaviour: Behaviour) -> (Result<Vec<u8>, FetchError>, usize, Duration) {
    let server = RangeServer::start([("a.bin".to_owned(), (0..=255).collect())].into(), behaviour);
    let source = Source::http_with(server.url.clone(), PATIENCE);
    let start = Instant::now();
    let result = block_on(source.read("a.bin", Some(100..200)));
    (result, server.requests(), start.elapsed())
}

#[test]
fn a_busy_host_is_asked_again() {
    let (result, requests, _) = read(Behaviour::Busy { times: 2, retry_after: "0" });
    assert_eq!(result.unwrap().len(), 100);
    assert_eq!(requests, 3);
}

#[test]
fn a_busy_host_is_left_alone_as_long_as_it_asks() {
    let (result, requests, took) = read(Behaviour::Busy { times: 1, retry_after: "Sun, 06 Nov 1994 08:49:38 GMT" });
    assert_eq!(result.unwrap().len(), 100);
    assert_eq!(requests, 2);
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_host_that_asks_for_a_long_wait_is_not_asked_again() {
    let (result, requests, _) = read(Behaviour::Busy { times: 1, retry_after: "60" });
    assert!(matches!(result, Err(FetchError::Busy { status: 429, retry_after_s: Some(60), .. })), "{result:?}");
    assert_eq!(requests, 1);
}

#[test]
fn a_host_that_stays_busy_is_given_up() {
    let (result, requests, _) = read(Behaviour::Fails(503));
    assert!(matches!(result, Err(FetchError::Busy { status: 503, retry_after_s: None, .. })), "{result:?}");
    assert_eq!(requests, 3);
}

#[test]
fn a_host_that_falls_silent_in_a_body_is_given_up() {
    let (result, requests, took) = read(Behaviour::StallsInBodies);
    assert!(matches!(result, Err(FetchError::Stalled { silent_ms: 300, received: 50, .. })), "{result:?}");
    assert_eq!(requests, 1);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_host_that_never_answers_is_given_up() {
    let (result, _, took) = read(Behaviour::Delays(1500));
    assert!(matches!(result, Err(FetchError::Stalled { received: 0, .. })), "{result:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
