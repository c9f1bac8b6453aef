//! The wasm package: three builds from one source, of which the loader takes the fastest that a browser can run.

use std::io::Write;
use std::panic::resume_unwind;
use std::path::Path;

use anyhow::Result;
use wasm_bindgen_cli_support::Bindgen;

use crate::site::{sha256, target};
use crate::step::{command, run, step};

/// One build.
struct Build {
    /// Folder under `web/sdk/wasm`.
    name: &'static str,
    /// What the compiler may use.
    features: &'static str,
    /// Arguments of cargo beside the usual ones.
    cargo: &'static str,
    /// Arguments of the linker.
    link: &'static [&'static str],
    /// What the optimiser may use beside what every build has.
    optimizer: &'static str,
}

const BUILDS: [Build; 3] = [
    Build { name: "simd", features: "+simd128", cargo: "", link: &[], optimizer: "" },
    Build {
        name: "relaxed",
        features: "+simd128,+relaxed-simd",
        cargo: "",
        link: &[],
        optimizer: "--enable-relaxed-simd",
    },
    Build {
        name: "threads",
        features: "+simd128,+relaxed-simd,+atomics,+bulk-memory",
        // The standard library comes without atomics for this target, so it is built along.
        cargo: "-Z build-std=std,panic_abort",
        link: &[
            "--shared-memory",
            "--import-memory",
            "--max-memory=4294967296",
            "--export=__wasm_init_tls",
            "--export=__tls_size",
            "--export=__tls_align",
            "--export=__tls_base",
        ],
        optimizer: "--enable-relaxed-simd --enable-threads",
    },
];

/// What the optimiser may use: what every browser with SIMD has. Newer encodings are smaller, but don't load.
const OPTIMIZER: &str = "--mvp-features --enable-simd --enable-bulk-memory --enable-bulk-memory-opt \
     --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals --enable-reference-types \
     --enable-multivalue";

/// Builds all three into `web/sdk/wasm`, at once, because the last and longest part of each takes one thread; gives their
/// names and gzip sizes.
pub fn build(root: &Path) -> Result<Vec<(&'static str, usize)>> {
    std::thread::scope(|scope| {
        let builds = BUILDS.each_ref().map(|build| scope.spawn(|| step(build.name, || one(root, build))));
        let joined = builds.into_iter().map(|build| build.join().unwrap_or_else(|panic| resume_unwind(panic)));
        BUILDS.iter().zip(joined).map(|(build, bytes)| Ok((build.name, bytes?))).collect()
    })
}

/// Compiles, binds and optimises; gives the gzip size.
fn one(root: &Path, build: &Build) -> Result<usize> {
    let mut flags = format!("-C target-feature={} --cfg getrandom_backend=\"wasm_js\"", build.features);
    for argument in build.link {
        flags += &format!(" -C link-arg={argument}");
    }
    // Each build has a folder of its own, since compiler flags of one would make the others' output stale.
    let folder = target(root).join("wasm").join(build.name);
    let line = "cargo build --quiet --locked --profile wasm --target wasm32-unknown-unknown --package huatuo-wasm";
    let mut compile = command(root, &format!("{line} {}", build.cargo));
    compile.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", &folder).env("RUSTC_BOOTSTRAP", "1");
    run(&mut compile)?;
    let out = root.join("web/sdk/wasm").join(build.name);
    let mut bindgen = Bindgen::new();
    bindgen.input_path(folder.join("wasm32-unknown-unknown/wasm/huatuo_wasm.wasm"));
    bindgen.web(true)?.typescript(true).generate(&out)?;
    let bound = out.join("huatuo_wasm_bg.wasm");
    let optimizer = format!("node_modules/.bin/wasm-opt -O3 {OPTIMIZER} {} -o", build.optimizer);
    optimize(root, &bound, &optimizer, &folder)?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&std::fs::read(&bound)?)?;
    Ok(gzip.finish()?.len())
}

/// Optimises a module in place, or takes the result of the last time where it was the same module: it takes a while.
fn optimize(root: &Path, module: &Path, optimizer: &str, folder: &Path) -> Result<()> {
    let (stamp, optimized) = (folder.join("optimized.sha256"), folder.join("optimized.wasm"));
    let wanted = sha256(&[optimizer.as_bytes(), &std::fs::read(module)?].concat());
    if !std::fs::read_to_string(&stamp).is_ok_and(|known| known == wanted) || !optimized.exists() {
        run(command(&root.join("web"), optimizer).arg(&optimized).arg(module))?;
        std::fs::write(stamp, wanted)?;
    }
    std::fs::copy(&optimized, module)?;
    Ok(())
}
