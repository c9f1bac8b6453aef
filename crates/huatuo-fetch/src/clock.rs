//! A monotonic clock that also runs in a browser, a Web Worker and at the edge.

/// Milliseconds since an arbitrary moment before the first call; only differences mean something.
pub fn now_ms() -> f64 {
    crate::platform::now_ms()
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_does_not_run_backwards() {
        let before = super::now_ms();
        assert!(super::now_ms() >= before);
    }
}
