//! Whether a published index is served as every reader needs it: one live test for each rule for static hosts.
//!
//! A rule that could not be tested is said to be so, with the reason; nothing is assumed of a host.

mod caching;
mod finding;
mod host;
mod manifest;
mod missing_name;
mod other_origins;
mod ranges;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use finding::{Finding, HostReport, Rule, Verdict};

use crate::patience::Patience;
use host::Host;

/// Tests the live host of a published index folder against each rule for static hosts, with about ten small requests made
/// one after the other; blocks the thread.
///
/// `url` is the folder that `manifest.json` lies in, with or without a slash at the end. What can't be reached is a finding,
/// not an error. Whether the host speaks HTTP/2 or HTTP/3 is not tested: the client speaks HTTP/1.1.
pub fn check_host(url: &str) -> HostReport {
    check_within(url, Patience::default().silence)
}

/// As [`check_host`], giving up a request that is silent for so long.
fn check_within(url: &str, silence: Duration) -> HostReport {
    let host = Host::new(url, silence);
    let (pack, mut findings) = manifest::check(&host);
    match pack {
        Ok(pack) => {
            findings.extend(ranges::check(&host, &pack));
            findings.extend(other_origins::check(&host, &pack));
        }
        Err(reason) => findings.extend(Rule::OF_PACKS.map(|rule| rule.not_tested(&reason))),
    }
    findings.push(missing_name::check(&host));
    HostReport { url: url.to_owned(), findings }
}
