//! Bytes from wherever they lie: memory, a directory, or any static host that answers HTTP range requests.
//!
//! This is the only crate of the workspace's I/O that chooses between native and web. The choice is made once, by
//! swapping the whole module behind `platform`: `native/` uses the file system and a blocking HTTP client on threads of its
//! own, `web/` uses the host's `fetch`. Both go through the same checks in `reply.rs` and the same retries in `http.rs`, so
//! a host that answers wrongly is refused the same way everywhere. Natively `check_host` tells whether a published index
//! is served as every reader needs it.

#[cfg(not(target_arch = "wasm32"))]
mod check_host;
pub mod clock;
mod error;
mod hash;
mod http;
mod name;
mod patience;
#[cfg(not(target_arch = "wasm32"))]
#[path = "native/mod.rs"]
mod platform;
#[cfg(target_arch = "wasm32")]
#[path = "web/mod.rs"]
mod platform;
mod reply;
mod retry_after;
mod source;
#[cfg(test)]
mod tests;

#[cfg(not(target_arch = "wasm32"))]
pub use check_host::{Finding, HostReport, Rule, Verdict, check_host};
pub use error::FetchError;
pub use hash::{sha256_hex, xxh3_64, xxh3_128_hex};
pub use platform::KeptFile;
pub use reply::MAX_WHOLE_BYTES;
pub use source::{Counters, Source};
