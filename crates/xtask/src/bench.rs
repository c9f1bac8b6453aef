//! `cargo xtask bench`: measurements beside peers, printed and written to `target/bench/`.

use std::path::Path;

use anyhow::Result;

use crate::step::{self, command, step};
use crate::{prerequisites, site};

/// A benchmark.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Name {
    /// Prefill and decode in Chromium, one thread, beside wllama on the same GGUF
    BrowserCpu,
}

/// Version of the peer; installed on demand, never committed.
const WLLAMA: &str = "@wllama/wllama@3.8.1";

/// Runs a benchmark.
pub fn run(root: &Path, name: Name) -> Result<()> {
    match name {
        Name::BrowserCpu => browser_cpu(root),
    }
}

fn browser_cpu(root: &Path) -> Result<()> {
    let built = site::build(root)?;
    let bench = site::target(root).join("bench");
    std::fs::create_dir_all(&bench)?;
    let peers = bench.join("peers");
    step("peer: wllama", || {
        std::fs::create_dir_all(&peers)?;
        step::run(&mut command(
            &peers,
            &format!("npm install --no-save --no-audit --no-fund --loglevel=error {WLLAMA}"),
        ))
    })?;
    step("browser-cpu", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/browser-cpu.mjs");
        measure
            .env("CHROMIUM", prerequisites::chromium()?)
            .env("HUATUO_DIST", &built.dist)
            .env("HUATUO_MODELS", &built.models)
            .env("HUATUO_PEERS", &peers)
            .env("HUATUO_BENCH_OUT", bench.join("browser-cpu.json"));
        step::run(&mut measure)
    })
}
