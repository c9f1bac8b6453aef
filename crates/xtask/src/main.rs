//! `cargo xtask …`: everything a newcomer or a machine has to run.

mod bench;
mod licences;
mod prerequisites;
mod samples;
mod site;
mod step;
mod synthetic_gguf;
mod test;
mod tidy;
mod wasm;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows HuatuoGPT-R")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and serve the consultation page
    Demo {
        /// Port of the local server
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Run every check and test
    Test {
        /// Leave out the browser
        #[arg(long)]
        no_browser: bool,
    },
    /// Build the deployable site (page, wasm, models, sample index) in target/site
    BuildWeb,
    /// Measure and compare with peers
    Bench {
        /// What to measure
        name: bench::Name,
    },
    /// Expand the knowledge tables into the sample records
    Samples {
        /// Only compare with the committed records
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let root = root();
    match Arguments::parse().command {
        Command::Demo { port } => site::demo(&root, port),
        Command::Test { no_browser } => test::run(&root, no_browser),
        Command::BuildWeb => site::build(&root).map(drop),
        Command::Bench { name } => bench::run(&root, name),
        Command::Samples { check } => samples::expand(&root, check),
    }
}

/// The repository's root: of the checkout that cargo runs this in, which need not be the one it was compiled in when
/// several share a target folder.
fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.ancestors().nth(2).expect("crates/xtask lies two folders down").to_owned()
}
