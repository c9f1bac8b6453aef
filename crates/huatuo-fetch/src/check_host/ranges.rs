//! Ranges of a pack: exact, of the right size, never compressed.

use std::ops::Range;

use super::caching;
use super::finding::{Finding, Rule};
use super::host::{Answer, Host};
use super::manifest::Pack;
use crate::FetchError;

/// Bytes of a small range.
const SMALL: u64 = 16;
/// Bytes of a range that is worth compressing to a server that does.
const LARGE: u64 = 4096;

/// Checks the rules from [`Rule::FirstBytes`] to [`Rule::PackCaching`].
pub(super) fn check(host: &Host, pack: &Pack) -> Vec<Finding> {
    let first = host.range(&pack.name, &(0..SMALL), &[("accept-encoding", "identity")]);
    let mut findings = vec![exact(Rule::FirstBytes, &first)];
    match &first {
        Ok(answer) if answer.body.is_ok() => findings.extend(of_exact(host, pack, answer)),
        // One cause is told once: a host that fails this fails the others for the same reason.
        _ => findings.extend(Rule::OF_PACKS[1..6].iter().map(|rule| rule.not_tested("no range could be read"))),
    }
    findings.push(match &first {
        Ok(answer) if answer.is_success() => caching::of_pack(answer.header("cache-control").as_deref()),
        _ => Rule::PackCaching.not_tested("no pack could be read"),
    });
    findings
}

/// What can be tested on a host whose first range was exact.
fn of_exact(host: &Host, pack: &Pack, first: &Answer) -> [Finding; 5] {
    let plain = |range: Range<u64>| host.range(&pack.name, &range, &[("accept-encoding", "identity")]);
    let middle_start = (pack.bytes - SMALL) / 2;
    let middle = plain(middle_start..middle_start + SMALL);
    let last = plain(pack.bytes - 1..pack.bytes);
    [
        exact(Rule::MiddleBytes, &middle),
        exact(Rule::LastByte, &last),
        size(pack, first),
        tag(first, middle.as_ref().ok()),
        uncompressed(host, pack),
    ]
}

fn exact(rule: Rule, answer: &Result<Answer, FetchError>) -> Finding {
    match answer.as_ref().map(|answer| (&answer.body, &answer.head)) {
        Ok((Ok(_), head)) => rule.pass(format!("206 with '{}'", head.content_range.as_deref().unwrap_or_default())),
        Ok((Err(error), _)) | Err(error) => rule.of_error(error),
    }
}

fn size(pack: &Pack, first: &Answer) -> Finding {
    let rule = Rule::PackSize;
    let range = first.head.content_range.as_deref().unwrap_or_default();
    match range.split_once('/').and_then(|(_, total)| total.trim().parse::<u64>().ok()) {
        Some(total) if total == pack.bytes => rule.pass(format!("{} has {total} bytes", pack.name)),
        Some(total) => {
            rule.fail(format!("{} has {total} bytes on the host and {} in the manifest", pack.name, pack.bytes))
        }
        None => rule.not_tested("Content-Range does not tell the size"),
    }
}

fn tag(first: &Answer, middle: Option<&Answer>) -> Finding {
    let rule = Rule::StableTag;
    let Some(middle) = middle.filter(|answer| answer.is_success()) else {
        return rule.not_tested("there is no second range to compare with");
    };
    match (first.header("etag"), middle.header("etag")) {
        (None, None) => rule.pass("there is no ETag, and the names of packs make it needless"),
        (first, second) if first == second => rule.pass(format!("it is {}", first.unwrap_or_default())),
        (first, second) => rule.warn(format!(
            "it is {} and then {}: answers come from different copies or are transformed on the way",
            first.as_deref().unwrap_or("none"),
            second.as_deref().unwrap_or("none")
        )),
    }
}

fn uncompressed(host: &Host, pack: &Pack) -> Finding {
    let rule = Rule::Uncompressed;
    let range = 0..pack.bytes.min(LARGE);
    let read = |accepted| host.range(&pack.name, &range, &[("accept-encoding", accepted)])?.body;
    let plain = match read("identity") {
        Ok(plain) => plain,
        Err(error) => return rule.not_tested(format!("there is nothing to compare with: {error}")),
    };
    match read("gzip, br") {
        Ok(bytes) if bytes == plain => rule.pass("the bytes are the same for a client that accepts gzip and br"),
        Ok(_) => rule.fail("a client that accepts gzip and br gets other bytes"),
        Err(error) => {
            let finding = rule.of_error(&error);
            Finding { detail: format!("asked as a client that accepts gzip and br: {}", finding.detail), ..finding }
        }
    }
}
