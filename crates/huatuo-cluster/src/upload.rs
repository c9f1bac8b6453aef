//! An index brought to an S3-compatible object store: packs first, the manifest last.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use huatuo_index::{MANIFEST_NAME, Manifest};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as StorePath;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions, PutPayload};
use url::Url;

use crate::ClusterError;

/// Packs on their way at once; a pack is held in memory, 8 MiB or little more.
const TOGETHER: usize = 8;
/// What the names of variables begin with.
const VARIABLES: &str = "AWS_";
/// Packs never change under their names.
const OF_PACKS: &str = "public, max-age=31536000, immutable, no-transform";
/// Readers ask for the manifest each time.
const OF_MANIFEST: &str = "no-cache";

/// What an upload has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Packs that were sent.
    pub sent: usize,
    /// Packs that were there already.
    pub kept: usize,
    /// Bytes that were sent, the manifest's included.
    pub bytes: u64,
}

/// Uploads the index in a folder to `s3://bucket/prefix`; endpoint, region and credentials are those among `variables` that begin
/// with `AWS_`, as the environment names them.
///
/// Packs that are there with the same size are left alone: their names say what is in them. Readers see the old index until the
/// manifest, which comes last, is there.
///
/// # Errors
/// [`ClusterError::Address`]; [`ClusterError::Incomplete`] before anything is sent; [`ClusterError::Store`].
pub fn upload(
    folder: &Path,
    url: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Uploaded, ClusterError> {
    let (store, prefix) = store(url, variables)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ClusterError::Process { process: "upload", detail: error.to_string() })?;
    runtime.block_on(upload_to(folder, &store, &prefix))
}

fn store(
    url: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(impl ObjectStore, StorePath), ClusterError> {
    let wrong = |detail: String| ClusterError::Address { given: url.to_owned(), detail, example: "s3://bucket/folder" };
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    let Some(bucket) = parsed.host_str().filter(|_| parsed.scheme() == "s3") else {
        return Err(wrong("it does not name a bucket behind s3://".to_owned()));
    };
    let prefix = StorePath::from_url_path(parsed.path()).map_err(|error| wrong(error.to_string()))?;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables.filter(|(name, _)| name.starts_with(VARIABLES)) {
        // Other programs have variables of that kind, which say nothing about stores.
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder.with_bucket_name(bucket).build();
    Ok((store.map_err(|source| ClusterError::Store { file: url.to_owned(), source })?, prefix))
}

async fn upload_to(folder: &Path, store: &impl ObjectStore, prefix: &StorePath) -> Result<Uploaded, ClusterError> {
    let path = folder.join(MANIFEST_NAME);
    let described = std::fs::read(&path).map_err(|error| ClusterError::file(&path, error))?;
    let manifest = Manifest::parse(&described)?;
    for pack in manifest.packs() {
        let found = std::fs::metadata(folder.join(&pack.name)).map(|metadata| metadata.len());
        if found.ok() != Some(pack.bytes) {
            let (file, folder) = (pack.name.clone(), folder.display().to_string());
            return Err(ClusterError::Incomplete { file, folder });
        }
    }
    let send = async |name: &str| {
        let path = folder.join(name);
        let content = tokio::fs::read(&path).await.map_err(|error| ClusterError::file(&path, error))?;
        put(store, prefix, name, content, ("application/octet-stream", OF_PACKS)).await
    };
    let sent: Vec<u64> = futures::stream::iter(manifest.packs().cloned())
        .map(async |pack| {
            let there = store.head(&prefix.clone().join(pack.name.as_str())).await;
            match there {
                Ok(found) if found.size == pack.bytes => Ok(0),
                Ok(_) | Err(object_store::Error::NotFound { .. }) => send(&pack.name).await,
                Err(source) => Err(ClusterError::Store { file: pack.name, source }),
            }
        })
        .buffer_unordered(TOGETHER)
        .try_collect()
        .await?;
    let packs = sent.iter().filter(|bytes| **bytes > 0).count();
    let bytes = put(store, prefix, MANIFEST_NAME, described, ("application/json", OF_MANIFEST)).await?;
    Ok(Uploaded { sent: packs, kept: sent.len() - packs, bytes: bytes + sent.iter().sum::<u64>() })
}

async fn put(
    store: &impl ObjectStore,
    prefix: &StorePath,
    name: &str,
    content: Vec<u8>,
    (content_type, cache_control): (&'static str, &'static str),
) -> Result<u64, ClusterError> {
    let bytes = content.len() as u64;
    let attributes = [(Attribute::ContentType, content_type), (Attribute::CacheControl, cache_control)];
    let options = PutOptions { attributes: Attributes::from_iter(attributes), ..PutOptions::default() };
    let sent = store.put_opts(&prefix.clone().join(name), PutPayload::from(content), options).await;
    sent.map_err(|source| ClusterError::Store { file: name.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buckets_are_places_to_upload_to() {
        for wrong in ["bucket/index", "https://bucket/index", "s3:///index"] {
            assert!(matches!(store(wrong, std::iter::empty()), Err(ClusterError::Address { .. })), "{wrong}");
        }
    }
}
