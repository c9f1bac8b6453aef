//! The `huatuo` command. Results go to stdout, everything else to stderr.

mod ask;
#[cfg(feature = "cluster")]
mod cluster;
mod eval;
mod index;
mod model;
mod speed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "huatuo",
    version,
    about = "Medical consultation grounded in physician consultations, on this machine"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer a question with references
    Ask(ask::Arguments),
    /// Build, verify and search an index
    #[command(subcommand)]
    Index(index::Command),
    /// Run the processes of a cluster that builds indexes
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Measure
    #[command(subcommand)]
    Eval(eval::Command),
    /// Time reading and writing of a model file
    Speed(speed::Arguments),
    /// Convert, quantize and inspect model files
    #[command(subcommand)]
    Model(model::Command),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ask(arguments) => ask::run(&arguments),
        Command::Index(command) => index::run(&command),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => cluster::run(command),
        Command::Eval(command) => eval::run(&command),
        Command::Speed(arguments) => speed::run(&arguments),
        Command::Model(command) => model::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
