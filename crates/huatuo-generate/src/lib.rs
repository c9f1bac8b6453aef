//! The generator: model files, one decoder described by data, its KV cache, sampling and constrained decoding.

mod architecture;
mod byte_level;
mod chat;
mod chat_forms;
mod citation_mask;
mod convert;
mod decoder;
mod error;
mod extractive;
mod generator;
mod gguf;
mod gguf_tokenizer;
mod gguf_writer;
mod inspect;
mod piece_merging;
mod prompt_state;
mod sampler;
mod sentence_piece;
mod text;
mod tokenizer_json;
mod weights;

pub use architecture::{Architecture, Family, Position};
pub use chat::ChatTemplate;
pub use chat_forms::Piece;
pub use citation_mask::CitationMask;
pub use convert::{CheckpointFiles, Conversion, ConvertError, Mixture, convert, quantize};
pub use decoder::{Decoder, KvCache};
pub use error::GenerateError;
pub use extractive::ExtractiveMask;
pub use generator::{LocalGenerator, NeverPause, Pace};
pub use gguf::{Gguf, GgufError, GgufHeader, TensorPlace, Value};
pub use gguf_writer::{GgufWriter, MetadataValue, TensorEntry};
pub use inspect::{EncodingUse, ModelSummary, encoding_name};
pub use sampler::{Sampler, Sampling};
pub use text::{TextTokenizer, TokenStream};
pub use weights::DecoderLoader;
