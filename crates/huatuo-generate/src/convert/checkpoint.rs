//! The files of a checkpoint folder.

use std::collections::{BTreeMap, BTreeSet};

use huatuo_compute::Encoding;

use super::safetensors::Safetensors;
use super::{ConvertError, Mixture};

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

    /// The encoding of the largest tensor: writing in it changes no matrix.
    pub fn stored(&self) -> Result<Mixture, ConvertError> {
        let shards = self.shards()?;
        let tensors = shards.iter().flat_map(|shard| shard.names().filter_map(|name| shard.tensor(name)));
        let largest = tensors.max_by_key(|tensor| tensor.bytes.len()).map(|tensor| tensor.encoding);
        Ok(Mixture::Uniform(largest.unwrap_or(Encoding::F32)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name).copied()
    }

    /// Parses the safetensors files: those that the index names, or the only one.
    pub(super) fn shards(&self) -> Result<Vec<Safetensors<'_>>, ConvertError> {
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
