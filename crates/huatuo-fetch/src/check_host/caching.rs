//! `Cache-Control`: packs never change under their name, the manifest does (RFC 9111, section 5.2; RFC 8246).

use super::finding::{Finding, Rule};

/// A manifest older than this is a nuisance after an update, in seconds; GitHub Pages, which can't be told otherwise, sends
/// exactly so much.
const SHORT_S: u64 = 600;
/// A manifest older than this outlives the old packs that a careful publisher keeps for it, in seconds.
const LONG_S: u64 = 3600;
/// Packs kept shorter are fetched again by patients who come back, in seconds.
const WEEK_S: u64 = 7 * 24 * 3600;

pub(super) fn of_manifest(header: Option<&str>) -> Finding {
    let rule = Rule::ManifestCaching;
    let Some(header) = header else {
        return rule.warn("there is no Cache-Control, so each browser guesses for how long to keep it");
    };
    let detail = format!("Cache-Control is '{header}'");
    match max_age_s(header) {
        _ if has(header, "no-cache") || has(header, "no-store") => rule.pass(detail),
        _ if has(header, "immutable") => rule.fail(detail),
        Some(seconds) if seconds > LONG_S => rule.fail(detail),
        Some(seconds) if seconds > SHORT_S => rule.warn(detail),
        Some(_) => rule.pass(detail),
        None if has(header, "must-revalidate") => rule.pass(detail),
        None => rule.warn(detail),
    }
}

pub(super) fn of_pack(header: Option<&str>) -> Finding {
    let rule = Rule::PackCaching;
    let Some(header) = header else { return rule.warn("there is no Cache-Control") };
    let detail = format!("Cache-Control is '{header}'");
    let long = has(header, "immutable") || max_age_s(header).is_some_and(|seconds| seconds >= WEEK_S);
    let refused = ["no-cache", "no-store", "private"].iter().any(|directive| has(header, directive));
    if long && !refused { rule.pass(detail) } else { rule.warn(detail) }
}

/// Whether an answer that should be forgotten soon may be kept.
pub(super) fn is_long(header: &str) -> bool {
    has(header, "immutable") || max_age_s(header).is_some_and(|seconds| seconds > SHORT_S)
}

fn directives(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(str::trim)
}

fn has(header: &str, directive: &str) -> bool {
    directives(header).any(|found| found == directive)
}

fn max_age_s(header: &str) -> Option<u64> {
    let value = directives(header).find_map(|found| found.strip_prefix("max-age="))?;
    value.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict::{Fail, Pass, Warn};

    #[test]
    fn a_manifest_is_asked_for_again_soon() {
        for header in ["no-cache", "no-store", "max-age=0, must-revalidate", "public, max-age=600", "must-revalidate"] {
            assert_eq!(of_manifest(Some(header)).verdict, Pass, "{header}");
        }
        for header in [Some("max-age=1800"), Some("public"), None] {
            assert_eq!(of_manifest(header).verdict, Warn, "{header:?}");
        }
        for header in ["max-age=31536000, must-revalidate", "public, max-age=60, immutable", "max-age=\"86400\""] {
            assert_eq!(of_manifest(Some(header)).verdict, Fail, "{header}");
        }
    }

    #[test]
    fn packs_are_kept_for_long() {
        for header in ["public, max-age=31536000, immutable", "max-age=604800"] {
            assert_eq!(of_pack(Some(header)).verdict, Pass, "{header}");
        }
        for header in [Some("max-age=600"), Some("no-cache"), Some("private, max-age=31536000"), None] {
            assert_eq!(of_pack(header).verdict, Warn, "{header:?}");
        }
    }
}
