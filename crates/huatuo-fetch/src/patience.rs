//! How long a host is waited for, and how often it is asked again.

use std::time::Duration;

use crate::hash::xxh3_64;

/// How long a host is waited for. Tests use shorter times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest time without a byte, the answer's head included.
    pub silence: Duration,
    /// Wait before a busy host is asked again where it names no time; doubled each time.
    pub backoff: Duration,
    /// Longest wait that a busy host may ask for; one that asks for more is not asked again.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // A phone that changes cells is silent for some seconds; nobody waits longer than this for an answer.
            silence: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            // Somebody watches: beyond this it is better to say so than to wait in silence.
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// Times that a busy host is asked again.
    const RETRIES: u32 = 2;

    /// How long to wait before the request is made again, after `attempts` were refused; `None` to give up.
    ///
    /// The wait differs by `request`, so that reads that were refused together do not come back together.
    pub fn wait(&self, attempts: u32, retry_after_s: Option<u64>, request: &str) -> Option<Duration> {
        if attempts > Self::RETRIES {
            return None;
        }
        let wait = match retry_after_s {
            Some(seconds) => Duration::from_secs(seconds),
            None => self.backoff * 2u32.pow(attempts - 1),
        };
        // Up to half of the first wait, which is enough to spread some dozens of requests.
        let spread = self.backoff.mul_f64((xxh3_64(request.as_bytes()) % 1000) as f64 / 2000.0);
        (wait <= self.longest_wait).then_some(wait + spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        silence: Duration::from_secs(1),
        backoff: Duration::from_millis(100),
        longest_wait: Duration::from_secs(5),
    };

    fn wait_ms(attempts: u32, retry_after_s: Option<u64>) -> Option<u128> {
        // This request's spread is below half of the backoff.
        PATIENCE.wait(attempts, retry_after_s, "u").map(|wait| wait.as_millis() / 100 * 100)
    }

    #[test]
    fn a_host_that_names_no_time_is_asked_twice_more_ever_later() {
        assert_eq!([1, 2, 3].map(|attempts| wait_ms(attempts, None)), [Some(100), Some(200), None]);
    }

    #[test]
    fn a_host_is_left_alone_as_long_as_it_asks_or_given_up() {
        assert_eq!(wait_ms(1, Some(3)), Some(3000));
        assert_eq!(wait_ms(1, Some(6)), None);
        assert_eq!(wait_ms(1, Some(u64::MAX)), None);
    }

    #[test]
    fn requests_refused_together_do_not_come_back_together() {
        let waits: std::collections::BTreeSet<_> =
            (0..32).filter_map(|i| PATIENCE.wait(1, None, &format!("u{i}"))).collect();
        assert!(waits.len() > 24, "{}", waits.len());
    }
}
