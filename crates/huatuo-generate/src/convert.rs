//! Model files from checkpoints: safetensors to GGUF, and GGUF to GGUF of another encoding.

mod config;
mod encoding;
mod error;
mod names;
mod quantize;
mod safetensors;
mod sentencepiece;
mod tokenizer;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use huatuo_compute::{Cpu, Device, Encoding, TensorView};

pub use self::encoding::Mixture;
pub use self::error::ConvertError;
pub use self::quantize::quantize;

use self::config::Config;
use self::names::{Change, Placement, head_name, is_redundant, placements};
use self::safetensors::Safetensors;
use crate::gguf_writer::{GgufWriter, TensorEntry};

/// Numbers that are encoded at once: enough to be fast, few enough to take little memory.
const CHUNK: usize = 1 << 20;

/// Files of a checkpoint folder by name; large ones may be mapped rather than read.
#[derive(Clone, Debug, Default)]
pub struct CheckpointFiles<'a>(BTreeMap<String, &'a [u8]>);

impl<'a> CheckpointFiles<'a> {
    /// Names of the files that conversion reads, apart from safetensors.
    pub const NAMES: [&'static str; 7] = [
        "config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "added_tokens.json",
        "chat_template.jinja",
    ];

    /// Adds a file.
    pub fn insert(&mut self, name: impl Into<String>, bytes: &'a [u8]) {
        self.0.insert(name.into(), bytes);
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name).copied()
    }

    /// Parses the safetensors files: those that the index names, or the only one.
    fn shards(&self) -> Result<Vec<Safetensors<'_>>, ConvertError> {
        const INDEX: &str = "model.safetensors.index.json";
        const SINGLE: &str = "model.safetensors";
        let Some(index) = self.get(INDEX) else {
            let (name, bytes) = self.0.get_key_value(SINGLE).ok_or(ConvertError::MissingFile(SINGLE))?;
            return Ok(vec![Safetensors::parse(name, bytes)?]);
        };
        let bad = |reason: String| ConvertError::BadFile { file: INDEX, reason };
        let index: serde_json::Value = serde_json::from_slice(index).map_err(|error| bad(error.to_string()))?;
        let map = index["weight_map"].as_object().ok_or_else(|| bad("it has no `weight_map`".to_owned()))?;
        let names: BTreeSet<&str> = map.values().filter_map(|name| name.as_str()).collect();
        let parse = |name: &str| {
            let file = self.0.get_key_value(name).ok_or_else(|| bad(format!("it names {name}, which is not there")))?;
            Safetensors::parse(file.0, file.1)
        };
        names.into_iter().map(parse).collect()
    }
}

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

/// A tensor of the new file: rows of one of the old file.
struct Piece<'a> {
    target: &'a str,
    /// Bytes are those of the rows taken; the first dimension of the shape may be that of more rows.
    view: TensorView<'a>,
    change: Change,
}

impl Piece<'_> {
    fn columns(&self) -> usize {
        self.view.shape.last().copied().unwrap_or(1).max(1)
    }

    fn row_bytes(&self) -> usize {
        self.columns() / self.view.encoding.block_len() * self.view.encoding.block_bytes()
    }

    fn rows(&self) -> usize {
        self.view.bytes.len() / self.row_bytes().max(1)
    }

    fn shape(&self) -> Vec<usize> {
        match self.view.shape {
            [_] => self.view.shape.to_vec(),
            [_, rest @ ..] => [&[self.rows()], rest].concat(),
            [] => Vec::new(),
        }
    }

    /// Writes the numbers, some rows at a time.
    fn write<W: Write>(&self, encoding: Encoding, cpu: &Cpu, out: &mut GgufWriter<W>) -> Result<(), ConvertError> {
        if encoding == self.view.encoding && self.change == Change::None {
            return Ok(out.write(self.view.bytes)?);
        }
        let (columns, row_bytes) = (self.columns(), self.row_bytes());
        let rows = match self.change {
            Change::Interleaved(head) => head,
            _ => (CHUNK / columns).max(1),
        };
        for (i, bytes) in self.view.bytes.chunks(rows * row_bytes).enumerate() {
            let shape = [bytes.len() / row_bytes * columns];
            let mut numbers = cpu.vector(&TensorView { shape: &shape, bytes, ..self.view })?;
            match self.change {
                Change::None => {}
                Change::Interleaved(_) => numbers = interleave(&numbers, columns),
                Change::Normalised => numbers.chunks_exact_mut(columns).for_each(normalise),
            }
            out.write(&encoding::encode(self.target, numbers, columns, i * rows, encoding)?)?;
        }
        Ok(())
    }
}

/// Rows of both halves of a head in turn.
fn interleave(head: &[f32], columns: usize) -> Vec<f32> {
    let (first, second) = head.split_at(head.len() / columns / 2 * columns);
    let pairs = first.chunks_exact(columns).zip(second.chunks_exact(columns));
    pairs.flat_map(|(a, b)| [a, b]).flatten().copied().collect()
}

/// Divides a row by its length (as PyTorch does, by 10⁻¹² at least).
fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    row.iter_mut().for_each(|x| *x /= length);
}

fn write(
    metadata: &[(String, crate::MetadataValue)],
    pieces: &[Piece<'_>],
    mixture: Mixture,
    layers: usize,
    tied: bool,
    out: impl Write,
) -> Result<Conversion, ConvertError> {
    let mut conversion = Conversion::default();
    let mut entries = Vec::new();
    for piece in pieces {
        let (shape, name) = (piece.shape(), piece.target.to_owned());
        let (encoding, fell_back) = mixture.choose(&name, &shape, layers, tied);
        if fell_back {
            conversion.fallbacks.push((name.clone(), encoding));
        }
        entries.push(TensorEntry { name, shape, encoding });
    }
    conversion.tensors = entries.len();
    conversion.bytes = entries.iter().map(TensorEntry::bytes).sum();
    let mut writer = GgufWriter::begin(out, metadata, &entries)?;
    let cpu = Cpu::new();
    for (piece, entry) in pieces.iter().zip(&entries) {
        piece.write(entry.encoding, &cpu, &mut writer)?;
    }
    writer.finish()?;
    Ok(conversion)
}

#[cfg(test)]
mod tests;
