//! Model files from checkpoints: safetensors to GGUF, and GGUF to GGUF of another encoding.

mod checkpoint;
mod config;
mod encoding;
mod error;
mod names;
mod piece;
mod quantize;
mod safetensors;
mod sentencepiece;
mod tokenizer;
mod tokenizer_json;
mod vocabulary;

use std::collections::BTreeSet;
use std::io::Write;

use huatuo_compute::{Encoding, TensorView};

pub use self::checkpoint::CheckpointFiles;
pub use self::encoding::Mixture;
pub use self::error::ConvertError;
pub use self::quantize::quantize;

use self::config::Config;
use self::names::{Change, Placement, head_name, is_redundant, placements};
use self::piece::{Piece, write};
use self::safetensors::Safetensors;

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Tensors written.
    pub tensors: usize,
    /// Bytes of their data.
    pub bytes: usize,
    /// Tensors whose rows don't divide into the blocks of the encoding asked for, with the encoding they got.
    pub fallbacks: Vec<(String, Encoding)>,
}

/// Writes a checkpoint as GGUF.
pub fn convert(
    files: &CheckpointFiles<'_>,
    name: &str,
    mixture: Mixture,
    out: impl Write,
) -> Result<Conversion, ConvertError> {
    let config = Config::parse(files.get("config.json").ok_or(ConvertError::MissingFile("config.json"))?)?;
    let shards = files.shards()?;
    let placements = placements(&config);
    refuse_unknown(&config, &shards, &placements)?;
    let sources = placements.iter().map(|placement| source(&shards, placement)).collect::<Result<Vec<_>, _>>()?;
    let mut metadata = config.metadata(name);
    metadata.extend(tokenizer::metadata(files, config.family, config.vocabulary)?);
    let factors: Option<Vec<u8>> =
        config.rope_factors().map(|factors| factors.iter().flat_map(|x| x.to_le_bytes()).collect());
    let factors_shape = [factors.as_ref().map_or(0, |bytes| bytes.len() / 4)];
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    if let Some(bytes) = &factors {
        let view = TensorView { name: "rope_freqs.weight", shape: &factors_shape, encoding: Encoding::F32, bytes };
        pieces.push(Piece { target: view.name, view, change: Change::None });
    }
    for (placement, view) in placements.iter().zip(&sources) {
        let (rows, columns) = (placement.rows.clone(), view.shape.last().copied().unwrap_or(1));
        let row_bytes = columns * view.encoding.block_bytes();
        let bytes = &view.bytes[rows.start * row_bytes..rows.end * row_bytes];
        pieces.push(Piece { target: &placement.target, view: TensorView { bytes, ..*view }, change: placement.change });
    }
    write(&metadata, &pieces, mixture, config.layers, config.tied, out)
}

/// A tensor that the network doesn't have would be lost without a word.
fn refuse_unknown(config: &Config, shards: &[Safetensors<'_>], placements: &[Placement]) -> Result<(), ConvertError> {
    let known: BTreeSet<&str> = placements.iter().map(|placement| placement.source.as_str()).collect();
    let is_tied_head = |name: &str| config.tied && name == head_name(config.family);
    for shard in shards {
        let unknown = |name: &&str| !known.contains(name) && !is_redundant(name) && !is_tied_head(name);
        if let Some(name) = shard.names().find(unknown) {
            return Err(ConvertError::UnknownTensor { file: shard.file().to_owned(), name: name.to_owned() });
        }
    }
    Ok(())
}

/// The whole tensor that a placement takes rows of, its shape checked.
fn source<'a>(shards: &'a [Safetensors<'_>], placement: &Placement) -> Result<TensorView<'a>, ConvertError> {
    let name = &placement.source;
    let found = shards.iter().find_map(|shard| Some((shard, shard.tensor(name)?)));
    let (shard, view) = found.ok_or_else(|| ConvertError::MissingTensor(name.clone()))?;
    if view.shape != placement.shape {
        return Err(ConvertError::WrongShape {
            file: shard.file().to_owned(),
            name: name.clone(),
            expected: placement.shape.clone(),
            found: view.shape.to_vec(),
        });
    }
    Ok(view)
}

#[cfg(test)]
mod tests;
