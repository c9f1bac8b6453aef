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
    /// Write questions into the log: they are health data, and are not written otherwise
    #[arg(long)]
    log_questions: bool,
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
        settings.extend(self.log_questions.then(|| "log_questions=true".to_owned()));
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
    // Others' variables may be anything.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let config = Config::read(arguments.config.as_deref(), environment, &arguments.settings()?)?;
    if arguments.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    match config.log_json {
        true => tracing_subscriber::fmt().json().with_writer(std::io::stderr).init(),
        false => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
    }
    // Where, never what: a message may quote the text that something failed on.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "panicked");
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut stop = Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let server = tokio::select! {
            server = Server::open(config) => server?,
            () = &mut stop => return Ok(()),
        };
        server.run(stop).await
    });
    // Threads compute to the end of their step, or of a model that is being loaded; nobody waits for that.
    runtime.shutdown_background();
    ended
}
