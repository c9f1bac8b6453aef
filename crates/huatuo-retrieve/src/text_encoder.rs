//! What the retriever asks of an encoder.

use huatuo_compute::Device;

use crate::{Encoder, RetrieveError};

/// Texts to vectors whose cosine says how close they are.
#[allow(async_fn_in_trait)] // one thread
pub trait TextEncoder {
    /// SHA-256 of the weights, hexadecimal.
    fn sha256(&self) -> &str;
    /// The vector of a text; see [`Encoder::embed`].
    async fn embed(&self, text: &str) -> Result<Vec<f32>, RetrieveError>;
    /// A text as the bag of its words; see [`Encoder::embed_words`].
    fn embed_words(&self, text: &str) -> Result<Vec<f32>, RetrieveError>;
    /// Devices lost so far.
    fn recoveries(&self) -> usize {
        0
    }
}

impl<D: Device> TextEncoder for Encoder<D> {
    fn sha256(&self) -> &str {
        Encoder::sha256(self)
    }

    async fn embed(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        Encoder::embed(self, text).await
    }

    fn embed_words(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        Encoder::embed_words(self, text)
    }
}
