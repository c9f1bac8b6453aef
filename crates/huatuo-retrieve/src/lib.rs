//! The retriever: question to vector, vector and words to references.

mod bert;
mod calibration;
mod encoder;
mod error;
mod model_files;
mod query;
mod rank;
mod recovering;
mod retriever;
mod text_encoder;

pub use bert::{Bert, BertConfig, EncoderPrecision};
pub use calibration::Calibration;
pub use encoder::Encoder;
pub use error::RetrieveError;
pub use model_files::{ENCODER_FILES, ModelFiles};
pub use query::standalone_query;
pub use rank::{Ranked, rank};
pub use recovering::{AnyEncoder, RecoveringEncoder, ReloadEncoder};
pub use retriever::{HybridRetriever, searched_text};
pub use text_encoder::TextEncoder;
