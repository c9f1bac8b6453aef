//! Running one step: its name before, its time after, and on failure what to do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Runs a closure as a named step.
pub fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("── {name}");
    let started = Instant::now();
    let result = run();
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(_) => println!("   {name}: {seconds:.1} s"),
        Err(_) => println!("   {name}: failed after {seconds:.1} s"),
    }
    result
}

/// A command in a folder, its arguments separated by spaces.
pub fn command(folder: &Path, line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir(folder);
    // What cargo tells this program of its own package: build scripts look at it (ring's does), and would run again, with all
    // that is behind them, whenever cargo is called by hand in between.
    let of_package = ["CARGO_MANIFEST_", "CARGO_PKG_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| of_package.iter().any(|beginning| name.starts_with(beginning))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}; its output above says why");
    }
    Ok(())
}

/// Runs a command, showing what it prints, and gives the printed lines with whether it succeeded.
pub fn lines(command: &mut Command) -> Result<(Vec<String>, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("could not start {command:?}"))?;
    let output = child.stdout.take().context("stdout is piped")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        lines.push(line);
    }
    Ok((lines, child.wait()?.success()))
}
