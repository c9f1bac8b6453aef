//! Shuts an upstream off after failures, and lets one request try it again after a while (Nygard, "Release It!", 2007).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that shut an upstream off.
const MOST_FAILURES: u32 = 3;
/// How long it is left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// State of one upstream.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nothing is sent; then one request is, and this moves on.
    shut_until: Option<Instant>,
}

impl Breaker {
    /// Whether a request may be sent at `now`. Of an upstream that was shut off long enough, the first that asks may.
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.shut_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.shut_until = Some(now + PAUSE);
                true
            }
        }
    }

    /// Whether nothing is sent at `now`.
    pub fn is_shut(&self, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shut_until.is_some_and(|until| now < until)
    }

    /// An answer has begun: others may be sent, too. Failures are forgotten once one is complete.
    pub fn began(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shut_until = None;
    }

    /// A request was answered.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// A request failed at `now`.
    pub fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        if state.failures >= MOST_FAILURES {
            state.shut_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_shut_it_off_and_one_request_tries_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..MOST_FAILURES {
            assert!(breaker.admits(now));
            breaker.failed(now);
        }
        assert!(!breaker.admits(now) && breaker.is_shut(now));
        let later = now + PAUSE;
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "a second one does not");
        breaker.succeeded();
        assert!(breaker.admits(later) && !breaker.is_shut(later));
    }

    #[test]
    fn answers_that_begin_and_fail_shut_it_off_too() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..MOST_FAILURES {
            breaker.began();
            breaker.failed(now);
        }
        assert!(breaker.is_shut(now));
        breaker.began();
        assert!(!breaker.is_shut(now));
        breaker.failed(now);
        assert!(breaker.is_shut(now), "it was none that is complete");
    }

    #[test]
    fn a_success_forgets_failures() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }
}
