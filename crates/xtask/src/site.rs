//! The deployable site: page, wasm package, models and sample index, all static files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::step::{command, run, step};
use crate::{prerequisites, wasm};

/// Files of the default models that a browser loads.
const MODEL_FILES: &[(&str, &[&str])] = &[
    (
        "retriever",
        &[
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "1_Pooling/config.json",
            "calibration.json",
        ],
    ),
    ("generator", &["model.gguf", "tokenizer.json"]),
];

/// Files of sample records.
const SAMPLES: [&str; 4] = ["consultations", "first_aid", "knowledge_graph_diseases", "knowledge_graph_drugs"];

/// Where the parts of a built site lie.
pub struct Site {
    /// The page.
    pub dist: PathBuf,
    /// Models with their manifest.
    pub models: PathBuf,
    /// The sample index.
    pub index: PathBuf,
    /// Names of the wasm builds with their gzip sizes in bytes.
    pub wasm_gzip: Vec<(&'static str, usize)>,
}

/// Builds the site in `target/site`.
pub fn build(root: &Path) -> Result<Site> {
    let wasm_gzip = build_wasm(root)?;
    for (name, bytes) in &wasm_gzip {
        println!("   wasm {name}: {bytes} bytes gzip");
    }
    step("page", || run(&mut command(&root.join("web"), "npm run --silent build")))?;
    let site = target(root).join("site");
    let models = site.join("models");
    step("models", || stage_models(root, &models, &[]))?;
    let index = site.join("index");
    step("sample index", || {
        let records = |name: &&str| root.join(format!("samples/records/{name}.jsonl"));
        build_index(root, &index, &SAMPLES.iter().map(records).collect::<Vec<_>>())
    })?;
    Ok(Site { dist: root.join("web/dist"), models, index, wasm_gzip })
}

/// Installs what the web's parts are built with, and builds the wasm package; gives its builds with their gzip sizes.
pub fn build_wasm(root: &Path) -> Result<Vec<(&'static str, usize)>> {
    step("prerequisites", || {
        prerequisites::node()?;
        prerequisites::wasm_target(root)?;
        prerequisites::npm_packages(root)
    })?;
    step("wasm package", || wasm::build(root))
}

/// Builds the site and serves it until the user stops it.
pub fn demo(root: &Path, port: u16) -> Result<()> {
    let site = build(root)?;
    println!("── the page: http://127.0.0.1:{port} (stop with Ctrl-C)");
    let mut serve = command(&root.join("web"), "node serve.mjs");
    serve.arg("--dist").arg(&site.dist).arg("--models").arg(&site.models).arg("--index").arg(&site.index);
    run(serve.arg("--port").arg(port.to_string()))
}

/// The target folder, which may lie outside the clone.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Bytes of a piece that a browser verifies on its own; `web/sdk/model-store.ts` reads the same.
const PIECE_BYTES: usize = 4 << 20;

/// SHA-256, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize)]
struct FileEntry {
    bytes: usize,
    sha256: String,
    piece_sha256: Vec<String>,
}

/// Copies the default models, some of their files replaced, and writes `manifest.json` with their sizes and hashes.
pub fn stage_models(root: &Path, out: &Path, replaced: &[(&str, &PathBuf)]) -> Result<()> {
    let mut manifest = BTreeMap::new();
    for (model, files) in MODEL_FILES {
        let mut entries = BTreeMap::new();
        for file in *files {
            let name = format!("{model}/{file}");
            let own = root.join("models").join(&name);
            let from = replaced.iter().find(|(known, _)| *known == name).map_or(&own, |(_, path)| path);
            let bytes = std::fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
            let to = out.join(&name);
            std::fs::create_dir_all(to.parent().context("a model file lies in a folder")?)?;
            let piece_sha256 = bytes.chunks(PIECE_BYTES).map(sha256).collect();
            entries.insert(*file, FileEntry { bytes: bytes.len(), sha256: sha256(&bytes), piece_sha256 });
            std::fs::write(to, bytes)?;
        }
        manifest.insert(*model, entries);
    }
    std::fs::write(out.join("manifest.json"), serde_json::to_string_pretty(&manifest)?)?;
    Ok(())
}

/// Builds a program from the libraries that tests are built of: `--package` would choose other features of them, and build
/// nearly everything once more.
pub fn build_for_tests(root: &Path, program: &str) -> Result<()> {
    run(&mut command(
        root,
        &format!("cargo build --quiet --workspace --exclude huatuo-cluster --exclude xtask --locked {program}"),
    ))
}

/// Builds the index of some records with the `huatuo` program, unless program, encoder and records are the same as the last
/// time.
pub fn build_index(root: &Path, out: &Path, records: &[PathBuf]) -> Result<()> {
    build_for_tests(root, "--bin huatuo")?;
    let program = target(root).join("debug").join(format!("huatuo{}", std::env::consts::EXE_SUFFIX));
    let mut made_of = String::new();
    let encoder = MODEL_FILES[0].1.iter().map(|file| root.join("models").join(MODEL_FILES[0].0).join(file));
    for path in encoder.chain(records.iter().cloned()).chain([program.clone()]) {
        made_of += &sha256(&std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?);
    }
    let stamp = out.with_extension("made-of");
    if out.join("manifest.json").exists() && std::fs::read_to_string(&stamp).is_ok_and(|known| known == made_of) {
        return Ok(());
    }
    if out.exists() {
        std::fs::remove_dir_all(out)?;
    }
    // These records were written with care: none is to be left out for being like another.
    run(Command::new(program).args(["index", "build", "--keep-all", "--out"]).arg(out).arg("--input").args(records))?;
    Ok(std::fs::write(stamp, made_of)?)
}
