//! `cargo xtask samples`: expands the knowledge tables into the committed sample records.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::site;
use crate::step::run;

/// Writes `samples/records/*.jsonl`; with `check` only compares. An example of `huatuo-data` does it: if this program read
/// tables itself, everything that reads them would be built for it, and then once more for the tests.
pub fn expand(root: &Path, check: bool) -> Result<()> {
    site::build_for_tests(root, "--example expand_samples")?;
    let mut expand = Command::new(site::target(root).join("debug/examples/expand_samples"));
    run(expand.arg(root).args(check.then_some("--check")))
}
