//! The native platform: the file system, HTTP on a few threads, and the operating system's clock.

mod directory;
mod http;
mod pool;

use std::sync::LazyLock;
use std::time::Instant;

pub(crate) use directory::Directory;
pub(crate) use http::http_get;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn now_ms() -> f64 {
    START.elapsed().as_secs_f64() * 1000.0
}
