//! The native platform: the file system, HTTP on a few threads, and the operating system's clock.

mod directory;
mod http;
mod kept_file;
mod pool;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

pub(crate) use directory::Directory;
pub(crate) use http::{head, http_get, read_body, send};
pub use kept_file::KeptFile;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn now_ms() -> f64 {
    START.elapsed().as_secs_f64() * 1000.0
}

/// Waits on one of the threads that requests are made on: while a host is busy, fewer requests go out.
pub(crate) async fn sleep(time: Duration) {
    // A wait that was cut short because its thread failed is over as well.
    let _ = pool::run(move || std::thread::sleep(time)).await;
}
