//! `huatuo model`: convert, quantize, inspect.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use huatuo_generate::{
    CheckpointFiles, Conversion, Gguf, Mixture, ModelSummary, Position, convert, encoding_name, quantize,
};
use huatuo_native::{map, map_checkpoint};
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Write a checkpoint folder (config.json, safetensors, tokenizer) as one GGUF file
    Convert {
        /// Folder of the checkpoint: Llama, Qwen2, Qwen3, Baichuan, ChatGLM2 or ChatGLM3
        folder: PathBuf,
        /// File to write
        out: PathBuf,
        /// How matrices are stored
        #[arg(long, default_value = "F16", value_parser = mixture)]
        encoding: Mixture,
    },
    /// Write a GGUF file again in another encoding
    Quantize {
        /// File to read
        input: PathBuf,
        /// File to write
        out: PathBuf,
        /// How matrices are stored
        #[arg(long, value_parser = mixture)]
        encoding: Mixture,
    },
    /// Say what a GGUF file holds
    Inspect {
        /// The file
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn mixture(name: &str) -> Result<Mixture, String> {
    let known = || Mixture::ALL.map(|(name, _)| name).join(", ");
    Mixture::by_name(name).ok_or_else(|| format!("known encodings are {}", known()))
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Convert { folder, out, encoding } => {
            let files = map_checkpoint(folder)?;
            let mut checkpoint = CheckpointFiles::default();
            files.iter().for_each(|(name, bytes)| checkpoint.insert(name, bytes));
            let name = folder.file_name().map_or("model".into(), |name| name.to_string_lossy());
            write(out, |file| convert(&checkpoint, &name, *encoding, file))
                .with_context(|| format!("could not convert {}", folder.display()))
        }
        Command::Quantize { input, out, encoding } => {
            let bytes = map(input)?;
            let failed = || format!("could not quantize {}", input.display());
            let gguf = Gguf::parse(&bytes).with_context(failed)?;
            write(out, |file| quantize(&gguf, *encoding, file)).with_context(failed)
        }
        Command::Inspect { file, json } => {
            let bytes = map(file)?;
            let failed = || format!("could not inspect {}", file.display());
            let gguf = Gguf::parse(&bytes).with_context(failed)?;
            let summary = ModelSummary::from_gguf(&gguf).with_context(failed)?;
            if *json {
                println!("{}", as_json(&summary))
            } else {
                print(&summary)
            }
            Ok(())
        }
    }
}

/// Writes a file that is there whole or not at all, and says what was written.
fn write<E: std::error::Error + Send + Sync + 'static>(
    out: &Path,
    produce: impl FnOnce(BufWriter<File>) -> Result<Conversion, E>,
) -> Result<()> {
    let failed = || format!("could not write {}", out.display());
    let mut partial = out.as_os_str().to_owned();
    partial.push(".partial");
    let file = File::create(&partial).with_context(failed)?;
    let produced = produce(BufWriter::new(file)).map_err(anyhow::Error::from);
    let conversion = match produced.and_then(|done| Ok(std::fs::rename(&partial, out).map(|()| done)?)) {
        Ok(conversion) => conversion,
        Err(error) => {
            // The error says what matters; a partial file that stays is only in the way.
            let _ = std::fs::remove_file(&partial);
            return Err(error.context(failed()));
        }
    };
    for (name, encoding) in &conversion.fallbacks {
        eprintln!("{name}: its rows don't divide into blocks, stored in {}", encoding_name(*encoding));
    }
    println!("{} tensors, {} bytes in {}", conversion.tensors, conversion.bytes, out.display());
    Ok(())
}

fn position(position: &Position) -> String {
    match position {
        Position::Rotary { dimensions, theta, divisor, .. } => {
            format!("rotary on {dimensions} numbers a head, base {theta}, divided by {divisor}")
        }
        Position::LinearBias => "linear biases".to_owned(),
    }
}

fn template(summary: &ModelSummary) -> &'static str {
    match summary.chat_template {
        None => "none",
        Some(true) => "recognised",
        Some(false) => "not recognised",
    }
}

/// What `inspect --json` prints; an interface to other programs.
fn as_json(summary: &ModelSummary) -> Value {
    let a = &summary.architecture;
    let uses = summary.encodings.iter();
    let encodings: Map<String, Value> = uses
        .map(|(name, used)| ((*name).to_owned(), json!({ "tensors": used.tensors, "bytes": used.bytes })))
        .collect();
    json!({
        "family": a.family.name(),
        "name": summary.name,
        "layers": a.layers,
        "hidden": a.hidden,
        "feed_forward": a.feed_forward,
        "heads": a.attention.heads,
        "kv_heads": a.attention.kv_heads,
        "head_dim": a.attention.head_dim,
        "vocabulary": summary.vocabulary,
        "context": a.context,
        "position": position(&a.position),
        "parameters": summary.parameters,
        "encodings": encodings,
        "tokenizer": { "model": summary.tokenizer, "splitting": summary.splitting, "tokens": summary.tokens },
        "chat_template": template(summary),
    })
}

fn print(summary: &ModelSummary) {
    let a = &summary.architecture;
    let attention = a.attention;
    let unnamed = || "unnamed".to_owned();
    println!("{} ({})", summary.name.clone().unwrap_or_else(unnamed), a.family.name());
    println!("layers         {}", a.layers);
    println!("width          {}, feed-forward {}", a.hidden, a.feed_forward);
    println!(
        "heads          {} of {}, {} for keys and values",
        attention.heads, attention.head_dim, attention.kv_heads
    );
    println!("positions      {}", position(&a.position));
    println!("context        {} tokens", a.context);
    println!("vocabulary     {} tokens", summary.vocabulary);
    println!("parameters     {}", summary.parameters);
    for (name, used) in &summary.encodings {
        println!("{name:<14} {} tensors, {} bytes", used.tensors, used.bytes);
    }
    let tokenizer = summary.tokenizer.as_deref().unwrap_or("none");
    println!("tokenizer      {tokenizer} {}, {} tokens", summary.splitting.as_deref().unwrap_or(""), summary.tokens);
    println!("chat template  {}", template(summary));
}
