//! Generation by other servers that speak OpenAI's protocol: retrieval, prompts, citations and safety stay here.
//!
//! A request goes to one of a model's upstreams, drawn by weight among those that are not shut off, and to the next one where
//! it fails before an answer has begun; after that it is never repeated. Answers are always streamed here, so that deadlines
//! and clients that leave are noticed at each token, and put together where the client wants them whole. Redirects are not followed, and nothing a
//! client writes becomes an address.

mod breaker;
mod citations;
mod events;
mod pool;
mod stream;

pub use citations::KnownCitations;
pub use pool::{Place, Sending, UpstreamError, Upstreams};
pub use stream::{Deadline, Deadlines, Stream, Usage};
