//! Running the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// Runs `huatuo` with arguments; the sample index is kept in a folder of the tests, built before the first of them.
pub fn huatuo(arguments: &[&str]) -> Output {
    static SAMPLE_INDEX: OnceLock<()> = OnceLock::new();
    if arguments[0] == "ask" {
        SAMPLE_INDEX.get_or_init(|| drop(run(&["ask", "感冒", "--references-only"])));
    }
    run(arguments)
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_huatuo"));
    command.args(arguments).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).output().unwrap()
}

/// Runs it and reads the one JSON object it prints.
pub fn json(arguments: &[&str]) -> Value {
    let output = huatuo(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs it, expects failure, and gives what it says.
pub fn failure(arguments: &[&str]) -> String {
    let output = huatuo(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.stdout.is_empty(), "results of a failed command belong nowhere");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("error: ") && !message.contains("panicked"), "{message}");
    message
}

/// A path below the repository's root.
pub fn root(path: &str) -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).canonicalize().unwrap().to_string_lossy().into_owned()
}
