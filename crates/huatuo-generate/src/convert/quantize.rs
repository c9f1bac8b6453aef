//! A GGUF file in another encoding.

use std::io::Write;

use super::names::Change;
use super::piece::{Piece, write};
use super::{Conversion, ConvertError, Mixture};
use crate::{Gguf, GgufError, MetadataValue};

/// Layers beyond which a file is damaged, not large.
const MAX_LAYERS: u64 = 512;

/// Writes a model file again with its matrices in another encoding; metadata and vectors stay as they are.
pub fn quantize(gguf: &Gguf<'_>, mixture: Mixture, out: impl Write) -> Result<Conversion, ConvertError> {
    let key = format!("{}.block_count", gguf.text("general.architecture")?);
    let layers = match gguf.integer(&key)? {
        layers @ 1..=MAX_LAYERS => layers as usize,
        _ => return Err(GgufError::Metadata { key, expected: "a sane number of layers" }.into()),
    };
    let tied = matches!(gguf.tensor("output.weight"), Err(GgufError::MissingTensor(_)));
    // Data is aligned as the format does by default, and the file's type number would be another.
    let is_kept = |key: &str| !matches!(key, "general.alignment" | "general.file_type");
    let metadata: Vec<(String, MetadataValue)> = (gguf.raw_metadata())
        .filter(|(key, _)| is_kept(key))
        .map(|(key, bytes)| (key.to_owned(), MetadataValue::Copied(bytes.to_vec())))
        .collect();
    let mut pieces = Vec::new();
    for name in gguf.tensor_names() {
        let view = gguf.tensor(name)?;
        view.validate()?;
        if view.bytes.is_empty() {
            return Err(ConvertError::Encode { name: name.to_owned(), reason: "it is empty".to_owned() });
        }
        pieces.push(Piece { target: name, view, change: Change::None });
    }
    write(&metadata, &pieces, mixture, layers, tied, out)
}
