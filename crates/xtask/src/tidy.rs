//! The architecture's rules that the compiler can't keep.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::command;

/// Crates that each crate may depend on; what is not named here may not be used.
const ARROWS: &[(&str, &[&str])] = &[
    ("huatuo-core", &[]),
    ("huatuo-fetch", &[]),
    ("huatuo-tokenizer", &[]),
    ("huatuo-compute", &[]),
    ("huatuo-eval", &["huatuo-core"]),
    ("huatuo-data", &["huatuo-core"]),
    ("huatuo-index", &["huatuo-core", "huatuo-fetch"]),
    ("huatuo-retrieve", &["huatuo-core", "huatuo-fetch", "huatuo-index", "huatuo-tokenizer", "huatuo-compute"]),
    ("huatuo-generate", &["huatuo-core", "huatuo-fetch", "huatuo-tokenizer", "huatuo-compute"]),
    (
        "huatuo-wasm",
        &["huatuo-core", "huatuo-fetch", "huatuo-index", "huatuo-compute", "huatuo-retrieve", "huatuo-generate"],
    ),
    ("huatuo-cluster", &["huatuo-fetch", "huatuo-index", "huatuo-compute", "huatuo-retrieve"]),
    (
        "huatuo-native",
        &["huatuo-fetch", "huatuo-index", "huatuo-compute", "huatuo-retrieve", "huatuo-generate", "huatuo-data"],
    ),
    (
        "huatuo-worker",
        &[
            "huatuo-core",
            "huatuo-fetch",
            "huatuo-index",
            "huatuo-compute",
            "huatuo-retrieve",
            "huatuo-generate",
            "huatuo-native",
        ],
    ),
    (
        "huatuo-cli",
        &[
            "huatuo-cluster",
            "huatuo-native",
            "huatuo-core",
            "huatuo-fetch",
            "huatuo-index",
            "huatuo-compute",
            "huatuo-retrieve",
            "huatuo-generate",
            "huatuo-data",
            "huatuo-eval",
        ],
    ),
    ("xtask", &[]),
];
/// Where a target may be chosen.
const TARGET_CFG_ALLOWED: &[&str] = &["crates/huatuo-fetch/", "crates/huatuo-compute/", "crates/huatuo-wasm/"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];

/// Fails with every violation; gives how many rules were checked.
pub fn check(root: &Path) -> Result<usize> {
    let mut violations = arrows(root)?;
    for path in tracked_files(root)? {
        let name = path.to_string_lossy().replace('\\', "/");
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            violations.push(format!("{name}: a file is named after what it is about"));
        }
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        if name.ends_with(".rs")
            && !name.contains("xtask")
            && !TARGET_CFG_ALLOWED.iter().any(|p| name.starts_with(p))
            && text.contains("target_arch")
        {
            violations.push(format!("{name}: chooses a target; only {TARGET_CFG_ALLOWED:?} may"));
        }
        if name.ends_with(".rs") && !text.trim_start().starts_with("//!") && !text.trim_start().starts_with("#!") {
            violations.push(format!("{name}: begins without saying what the file is about (//! …)"));
        }
    }
    if !violations.is_empty() {
        bail!("the architecture's rules are broken:\n  {}", violations.join("\n  "));
    }
    Ok(4)
}

fn arrows(root: &Path) -> Result<Vec<String>> {
    let output = command(root, "cargo metadata --format-version 1 --no-deps --locked").output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let mut violations = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            if name.starts_with("huatuo-") && name != "huatuo-tests" {
                violations.push(format!("{name}: its arrows are not listed in xtask's tidy.rs"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let ours = to.starts_with("huatuo-") || to == "xtask";
            if ours && dependency["kind"].is_null() && !allowed.contains(&to) {
                violations.push(format!("{name} depends on {to}, which the architecture forbids"));
            }
        }
    }
    Ok(violations)
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = command(root, "git ls-files --cached --others --exclude-standard").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}
