//! `cargo xtask test`: every check and test, counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::site::Site;
use crate::step::{command, lines, step};
use crate::{licences, prerequisites, samples, site, tidy};

/// Largest wasm build, gzip, in bytes.
const WASM_GZIP_LIMIT: usize = 2_000_000;

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
}

impl Counts {
    /// Counts a check that passes or fails as a whole; a failure is told and the others still run.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        match step(name, check) {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("   FAILED: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Counts the tests that a runner reports; a runner that fails without a failed test counts as one.
    fn tests(&mut self, name: &str, runner: impl FnOnce() -> Result<(Counts, bool)>) {
        let (counts, succeeded) = step(name, runner).unwrap_or_else(|error| {
            println!("   FAILED: {error:#}");
            (Counts::default(), false)
        });
        self.passed += counts.passed;
        self.failed += counts.failed.max(usize::from(!succeeded || counts.passed == 0));
    }
}

/// Runs everything; fails when anything failed.
pub fn run(root: &Path, no_browser: bool) -> Result<()> {
    let mut counts = Counts::default();
    counts.check("rustfmt", || run_line(root, "cargo fmt --all --check"));
    counts.check("architecture", || tidy::check(root).map(drop));
    counts.check("clippy", || {
        run_line(
            root,
            "cargo clippy --quiet --workspace --exclude huatuo-cluster --all-targets --locked -- -D warnings",
        )
    });
    counts.tests("unit, property, golden and parity tests", || cargo_tests(root));
    // Apart, because the other packages would choose other features of what this program itself is built of.
    counts.tests("tests of xtask", || counted(&mut command(root, "cargo test --quiet --package xtask --locked")));
    counts.check("sample records are those of the knowledge table", || samples::expand(root, true));
    counts.check("documentation", || {
        let mut doc = command(
            root,
            "cargo doc --quiet --workspace --exclude huatuo-cluster --no-deps --locked --document-private-items",
        );
        crate::step::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    match prerequisites::clients(&site::target(root)) {
        Ok(clients) => {
            counts.tests("clients that others wrote, against the worker", || client_tests(root, &clients));
            counts.check("Kubernetes manifests against their schemas", || {
                let mut check = Command::new(clients.0.with_file_name("kubernetes-validate"));
                crate::step::run(check.arg("--strict").arg(root.join("worker/deploy/kubernetes.yaml")))
            });
        }
        Err(error) => println!("   clients that others wrote are left out: {error:#}"),
    }
    let site = site::build(root);
    counts.check("licences of dependencies", || licences::check(root).map(|n| println!("   {n} packages")));
    counts.check("TypeScript", || run_line(&root.join("web"), "npm run --silent typecheck"));
    counts.tests("builds on a cluster, and uploads", || cluster_tests(root));
    match site {
        Ok(site) => {
            counts.check("each wasm build is at most 2.0 MB gzip", || small_enough(&site));
            if !no_browser {
                counts.tests("end to end in Chromium", || browser_tests(root, &site));
            }
        }
        Err(error) => {
            println!("   FAILED: the site could not be built: {error:#}");
            counts.failed += 1;
        }
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 {
        bail!("{} checks or tests failed; search the output above for FAILED", counts.failed);
    }
    Ok(())
}

fn run_line(folder: &Path, line: &str) -> Result<()> {
    crate::step::run(&mut command(folder, line))
}

fn small_enough(site: &Site) -> Result<()> {
    match site.wasm_gzip.iter().find(|(_, bytes)| *bytes > WASM_GZIP_LIMIT) {
        Some((name, bytes)) => bail!("the wasm build `{name}` has {bytes} bytes gzip, the limit is {WASM_GZIP_LIMIT}"),
        None => Ok(()),
    }
}

/// Everything but what stands on DataFusion.
fn cargo_tests(root: &Path) -> Result<(Counts, bool)> {
    prerequisites::vulkan()?;
    let mut tests = command(
        root,
        "cargo test --quiet --workspace --exclude huatuo-cluster --exclude xtask --locked --no-fail-fast",
    );
    // Mesa compiles each of some thousand kernels for half a second: they are kept where all else is kept.
    tests.env("MESA_SHADER_CACHE_DIR", site::target(root).join("mesa"));
    match prerequisites::minilm(&site::target(root)) {
        Ok(folder) => drop(tests.env("HUATUO_MINILM", folder)),
        Err(error) => println!("   parity with all-MiniLM-L6-v2 is left out: {error:#}"),
    }
    counted(&mut tests)
}

/// OpenAI's clients, the AI SDK and Schemathesis, against the worker that the tests before were built with.
fn client_tests(root: &Path, (python, modules): &(PathBuf, PathBuf)) -> Result<(Counts, bool)> {
    let target = site::target(root);
    let mut tests = Command::new(python);
    tests
        .arg(root.join("tests/clients/run.py"))
        .args(["--worker".as_ref(), target.join("debug/huatuo-worker").as_os_str()])
        .args(["--modules".as_ref(), modules.as_os_str()]);
    let (lines, succeeded) = lines(&mut tests)?;
    let mut counts = Counts::default();
    for line in lines.iter().filter(|line| line.contains(" passed, ") && line.ends_with(" failed")) {
        counts.passed += number_before(line, " passed");
        counts.failed += number_before(line, " failed");
    }
    Ok((counts, succeeded))
}

/// What stands on DataFusion, which the other steps leave out, in a profile that does not optimise it.
fn cluster_tests(root: &Path) -> Result<(Counts, bool)> {
    // Both packages at once, so that their dependencies are built once, with the features that both need.
    counted(&mut command(
        root,
        "cargo test --quiet --profile cluster -p huatuo-cluster -p huatuo-cli --features huatuo-cli/cluster --lib \
         --test upload --test cluster --locked --no-fail-fast",
    ))
}

/// Runs `cargo test` and adds up its lines `test result: ok. 12 passed; 0 failed; …`, one a test program.
fn counted(tests: &mut Command) -> Result<(Counts, bool)> {
    let (lines, succeeded) = lines(tests)?;
    let mut counts = Counts::default();
    for line in lines.iter().filter(|line| line.starts_with("test result:")) {
        counts.passed += number_before(line, " passed");
        counts.failed += number_before(line, " failed");
    }
    Ok((counts, succeeded))
}

/// `# pass 12` and `# fail 0` of Node's test runner.
fn browser_tests(root: &Path, site: &Site) -> Result<(Counts, bool)> {
    let shots = site::target(root).join("screenshots");
    std::fs::create_dir_all(&shots)?;
    let mut tests = command(
        &root.join("web"),
        "node --test --test-concurrency=1 --test-reporter=tap ../tests/e2e/consultation.test.mjs ../tests/e2e/decoder.test.mjs \
         ../tests/e2e/gpu.test.mjs ../tests/e2e/gpu-page.test.mjs ../tests/e2e/worker.test.mjs",
    );
    tests
        .env("CHROMIUM", prerequisites::chromium()?)
        .env("HUATUO_E2E_DIST", &site.dist)
        .env("HUATUO_E2E_MODELS", &site.models)
        .env("HUATUO_E2E_INDEX", &site.index)
        .env("HUATUO_E2E_WORKER", site::target(root).join("debug/huatuo-worker"))
        .env("HUATUO_E2E_SHOTS", &shots);
    let (lines, succeeded) = lines(&mut tests)?;
    let count = |name: &str| {
        let value = lines.iter().rev().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.trim().parse().unwrap_or(0)
    };
    println!("   screenshots: {}", shots.display());
    Ok((Counts { passed: count("# pass "), failed: count("# fail ") }, succeeded))
}

fn number_before(line: &str, word: &str) -> usize {
    let before = line.split(word).next().unwrap_or_default();
    before.split_whitespace().next_back().unwrap_or_default().parse().unwrap_or(0)
}
