//! Generation by other servers that speak OpenAI's protocol: retrieval, prompts, citations and safety stay here.
//!
//! A request goes to one of a model's upstreams, drawn by weight among those that are not shut off, and to the next one where
//! it fails before the first byte of an answer came; after that it is never repeated. Redirects are not followed, and nothing a
//! client writes becomes an address.

mod breaker;
mod citations;
mod events;
mod pool;

pub use citations::KnownCitations;
pub use events::Events;
pub use pool::{Reply, StreamReply, UpstreamError, UpstreamSnapshot, Upstreams};
