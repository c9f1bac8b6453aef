//! `huatuo index delete | compact | stat`.

use std::path::Path;

use anyhow::{Result, bail};
use huatuo_index::{Index, MANIFEST_NAME, compact as compact_index, delete as delete_records};

/// Has records never be found again.
pub fn delete(folder: &Path, ids: &[String]) -> Result<()> {
    let missing = pollster::block_on(delete_records(folder, ids))?;
    println!("deleted {} records; `huatuo index compact` removes their bytes", ids.len() - missing.len());
    if !missing.is_empty() {
        bail!("no record has the identifier {}", missing.join(", "));
    }
    Ok(())
}

/// Writes an index of one segment without what was deleted.
pub fn compact(folder: &Path, out: &Path) -> Result<()> {
    if out.join(MANIFEST_NAME).exists() {
        bail!("{} holds an index already", out.display());
    }
    let manifest = pollster::block_on(compact_index(folder, out))?;
    println!("{} records in {}", manifest.records, out.display());
    Ok(())
}

/// Prints what an index consists of, and what a reader holds of it.
pub fn stat(place: &str) -> Result<()> {
    let index = pollster::block_on(Index::open(huatuo_native::source(place)))?;
    let manifest = index.manifest();
    println!(
        "{} records, {} of them can be found; {} dimensions",
        manifest.records,
        index.live_records(),
        manifest.dimensions
    );
    println!("encoder {} {}", manifest.encoder.name, manifest.encoder.sha256);
    for (number, segment) in manifest.segments.iter().enumerate() {
        let bytes: u64 = segment.packs.iter().map(|pack| pack.bytes).sum();
        println!("segment {number}: {} records, {bytes} bytes in {} packs", segment.records, segment.packs.len());
    }
    let opening = index.opening();
    println!(
        "opening reads {} bytes in {} requests; {} bytes stay in memory",
        opening.bytes,
        opening.requests,
        index.resident_bytes()
    );
    for (what, bytes) in index.sizes() {
        println!("{what:>12}: {bytes} bytes");
    }
    Ok(())
}
