//! Downloading the files of `models/manifest.json`, resumable and verified.

use std::collections::BTreeMap;

use huatuo_fetch::{Download, Source};
use serde::Deserialize;

use crate::error::EngineError;

/// The retriever's part of `models/manifest.json`: its files with their sizes and hashes.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelManifest {
    /// The encoder's files.
    pub retriever: BTreeMap<String, FileEntry>,
}

/// One file.
#[derive(Clone, Debug, Deserialize)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl ModelManifest {
    /// Reads the manifest.
    pub async fn fetch(source: &Source) -> Result<Self, EngineError> {
        let bytes = source.read("models/manifest.json", None).await?;
        serde_json::from_slice(&bytes).map_err(|error| EngineError::corrupt(format!("models/manifest.json: {error}")))
    }
}

/// A group of files on their way; what has arrived is kept when one fails.
pub struct FileGroup {
    pending: Vec<(String, Download)>,
    done: BTreeMap<String, Vec<u8>>,
    total: u64,
    arrived: u64,
}

impl FileGroup {
    /// Files `models/<folder>/<path>`.
    pub fn new(source: &Source, folder: &str, files: &BTreeMap<String, FileEntry>) -> Self {
        let download = |(path, entry): (&String, &FileEntry)| {
            let name = format!("models/{folder}/{path}");
            (path.clone(), Download::new(source.clone(), name, entry.bytes, &entry.sha256))
        };
        let mut pending: Vec<_> = files.iter().map(download).collect();
        pending.reverse(); // taken from the end
        Self { pending, done: BTreeMap::new(), total: files.values().map(|entry| entry.bytes).sum(), arrived: 0 }
    }

    /// Downloads what is missing. `progress` gets a file name, the bytes of the group that are here, and all of them.
    /// After an error, another call goes on where it stopped.
    pub async fn run(&mut self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<(), EngineError> {
        while let Some((path, download)) = self.pending.last_mut() {
            let (arrived, total) = (self.arrived, self.total);
            let bytes = download.run(&mut |done, _| progress(path, arrived + done, total)).await?;
            self.arrived += bytes.len() as u64;
            self.done.insert(path.clone(), bytes);
            self.pending.pop();
        }
        Ok(())
    }

    /// The files, once all are here.
    pub fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.done
    }
}
