//! The manifest: reachable, not cached for long, and naming a pack to test with.

use serde_json::Value;

use super::caching;
use super::finding::{Finding, Rule};
use super::host::{Answer, Host};
use crate::name::check_name;
use crate::reply::check_head;

/// The manifest's file name.
pub(super) const MANIFEST_NAME: &str = "manifest.json";
/// Most bytes taken; an index of thousands of packs has a manifest below one megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// A pack that the manifest names.
pub(super) struct Pack {
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Checks the manifest and gives the largest pack, the most likely to meet a host's limits, or why there is none.
pub(super) fn check(host: &Host) -> (Result<Pack, String>, Vec<Finding>) {
    let answer = match host.get(MANIFEST_NAME, &[("accept-encoding", "identity")], MAX_BYTES) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("{MANIFEST_NAME} could not be read");
            // A wrong address is the likeliest reason, and no rule of packs can be tested without: a failure, also of the
            // network.
            return (
                Err(reason.clone()),
                vec![Rule::Manifest.fail(error.to_string()), Rule::ManifestCaching.not_tested(reason)],
            );
        }
    };
    match read(host, &answer) {
        Ok((count, pack)) => {
            let manifest = Rule::Manifest.pass(format!("packs listed: {count}"));
            let caching = caching::of_manifest(answer.header("cache-control").as_deref());
            (pack.ok_or_else(|| "no pack has 16 bytes to test with".to_owned()), vec![manifest, caching])
        }
        Err(manifest) => {
            // The headers of some other page say nothing.
            let reason = format!("{MANIFEST_NAME} could not be used");
            (Err(reason.clone()), vec![manifest, Rule::ManifestCaching.not_tested(reason)])
        }
    }
}

/// How many packs there are, and the largest.
fn read(host: &Host, answer: &Answer) -> Result<(usize, Option<Pack>), Finding> {
    let rule = Rule::Manifest;
    check_head(&host.url(MANIFEST_NAME), &answer.head, None).map_err(|error| rule.of_error(&error))?;
    let body = answer.body.as_ref().map_err(|error| rule.of_error(error))?;
    let json: Value = serde_json::from_slice(body)
        .map_err(|error| rule.fail(format!("{MANIFEST_NAME} is not JSON ({error}); is it another page?")))?;
    let packs = json["packs"].as_array().ok_or_else(|| rule.fail(format!("{MANIFEST_NAME} lists no packs")))?;
    let packs: Option<Vec<Pack>> = packs.iter().map(pack).collect();
    let packs = packs.ok_or_else(|| rule.fail(format!("{MANIFEST_NAME} lists a pack without a good name or size")))?;
    let count = packs.len();
    // The rules read 16 bytes at once.
    let largest = packs.into_iter().filter(|pack| pack.bytes >= 16).max_by_key(|pack| pack.bytes);
    Ok((count, largest))
}

fn pack(entry: &Value) -> Option<Pack> {
    let name = entry["name"].as_str()?;
    check_name(name).ok()?;
    Some(Pack { name: name.to_owned(), bytes: entry["bytes"].as_u64()? })
}
