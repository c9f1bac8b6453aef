//! The `huatuo-worker` program.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use huatuo_worker::Server;
use huatuo_worker::config::Config;
use tokio::signal::unix::{SignalKind, signal};

/// Serves medical consultations grounded in physicians' consultations, and the model behind them, over HTTP.
///
/// Without arguments it serves the model and the records that it carries on a loopback address. Every setting can be given in a
/// file, as a variable HUATUO_WORKER_SECTION__NAME, or with --set; --print-config shows them all.
#[derive(Parser)]
#[command(name = "huatuo-worker", version)]
struct Arguments {
    /// TOML file with settings
    #[arg(long, env = "HUATUO_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long)]
    listen: Option<String>,
    /// A model: NAME=PATH of a GGUF file or checkpoint folder; may be given several times, the first is the default
    #[arg(long, value_name = "NAME=PATH")]
    model: Vec<String>,
    /// Folder or URL of an index
    #[arg(long)]
    index: Option<String>,
    /// Folder of an encoder
    #[arg(long)]
    encoder: Option<String>,
    /// What computes models given with --model
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Any setting, as limits.max_tokens=512; may be given several times
    #[arg(long, value_name = "SETTING=VALUE")]
    set: Vec<String>,
    /// Print the configuration and end
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    /// All flags as settings.
    fn settings(&self) -> Result<Vec<String>> {
        let mut settings = Vec::new();
        settings.extend(self.listen.iter().map(|listen| format!("listen={listen}")));
        settings.extend(self.index.iter().map(|index| format!("retrieval.index={index}")));
        settings.extend(self.encoder.iter().map(|encoder| format!("retrieval.encoder={encoder}")));
        if !self.model.is_empty() {
            let model = |given: &String| {
                let (name, path) =
                    given.split_once('=').with_context(|| format!("--model {given} is not NAME=PATH"))?;
                let [name, path, device] = [name, path, &self.device].map(|text| toml::Value::from(text).to_string());
                Ok(format!("{{ name = {name}, path = {path}, device = {device} }}"))
            };
            let models = self.model.iter().map(model).collect::<Result<Vec<_>>>()?;
            settings.push(format!("models=[{}]", models.join(", ")));
        }
        settings.extend(self.set.iter().cloned());
        Ok(settings)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let config = Config::read(arguments.config.as_deref(), std::env::vars(), &arguments.settings()?)?;
    if arguments.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    match config.log_json {
        true => tracing_subscriber::fmt().json().with_writer(std::io::stderr).init(),
        false => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::open(config).await?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run(stop).await
    })?;
    // Threads of models compute to the end of their step at most; nobody waits for what they write.
    Ok(())
}
