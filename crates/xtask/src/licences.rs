//! The licences of all dependencies, from `cargo metadata` and npm's lock file, against what Apache-2.0 may ship with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::command;

/// Licences that may be linked into an Apache-2.0 program.
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "bzip2-1.0.6",
    "MPL-2.0",
    "CDLA-Permissive-2.0",
    "BlueOak-1.0.0",
    "Python-2.0",
    "CC-BY-4.0",
    "NCSA",
];

/// Fails with the packages whose licence is not allowed; gives how many were looked at.
pub fn check(root: &Path) -> Result<usize> {
    let output = command(root, "cargo metadata --format-version 1 --all-features --locked").output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let mut found: Vec<(String, String)> = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists packages")? {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        found.push((format!("{} {}", text("name"), text("version")), text("license")));
    }
    let lock: Value = serde_json::from_slice(&std::fs::read(root.join("web/package-lock.json"))?)?;
    for (name, package) in lock["packages"].as_object().into_iter().flatten().filter(|(name, _)| !name.is_empty()) {
        found.push((name.clone(), package["license"].as_str().unwrap_or_default().to_owned()));
    }
    let refused: Vec<String> = (found.iter())
        .filter(|(_, licence)| !is_allowed(licence))
        .map(|(name, licence)| format!("{name}: `{licence}`"))
        .collect();
    if !refused.is_empty() {
        bail!("licences that are not on the list of allowed ones:\n  {}", refused.join("\n  "));
    }
    Ok(found.len())
}

/// An SPDX expression: any part of an OR, every part of an AND.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if ALLOWED.contains(&expression) {
        return true;
    }
    if let Some((left, right)) = split_outside_parentheses(expression, " OR ") {
        return is_allowed(&left) || is_allowed(&right);
    }
    if let Some((left, right)) = split_outside_parentheses(expression, " AND ") {
        return is_allowed(&left) && is_allowed(&right);
    }
    expression.strip_prefix('(').and_then(|e| e.strip_suffix(')')).is_some_and(is_allowed)
}

fn split_outside_parentheses(text: &str, separator: &str) -> Option<(String, String)> {
    let at = text.match_indices(separator).map(|(at, _)| at).find(|&at| {
        let before = &text[..at];
        before.matches('(').count() == before.matches(')').count()
    })?;
    Some((text[..at].to_owned(), text[at + separator.len()..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        assert!(is_allowed("MIT OR AGPL-3.0"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(!is_allowed("MIT AND AGPL-3.0"));
        assert!(!is_allowed(""));
    }
}
