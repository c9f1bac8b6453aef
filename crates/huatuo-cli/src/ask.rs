//! `huatuo ask`: one consultation.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use huatuo_core::safety::red_flags;
use huatuo_core::{Consultation, Conversation, Event, Limits, Question, Role, Timings, Turn, consult};
use huatuo_fetch::clock::now_ms;
use huatuo_generate::Sampling;
use serde::{Deserialize, Serialize};

#[derive(clap::Args)]
pub struct Arguments {
    /// The question
    question: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Folder or URL of an index (default: the sample corpus)
    #[arg(long)]
    index: Option<String>,
    /// Folder of an encoder in the sentence-transformers layout
    #[arg(long)]
    retriever: Option<PathBuf>,
    /// GGUF file; a tokenizer.json beside it goes before its own tokenizer
    #[arg(long)]
    generator: Option<PathBuf>,
    /// What the generator computes on
    #[arg(long, value_enum, default_value = "cpu")]
    device: huatuo_native::Processor,
    /// Give references, generate nothing
    #[arg(long)]
    references_only: bool,
    /// Earlier turns: a JSON list of {"role": "patient" | "assistant", "text": "…"}
    #[arg(long)]
    history: Option<PathBuf>,
    /// Seed of the random numbers, used with a temperature
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// 0 is greedy
    #[arg(long, default_value_t = Sampling::default().temperature)]
    temperature: f64,
    /// Likeliest tokens considered, used with a temperature; 0 considers all
    #[arg(long, default_value_t = Sampling::default().top_k)]
    top_k: usize,
    /// Probability mass considered, used with a temperature; 0 to 1
    #[arg(long, default_value_t = Sampling::default().top_p)]
    top_p: f64,
    /// Probability a token must have as a share of the likeliest one's, used with a temperature; 0 to 1
    #[arg(long, default_value_t = Sampling::default().min_p)]
    min_p: f64,
    /// Above 1, tokens that the answer has already become less likely; 0.01 to 100
    #[arg(long, default_value_t = Sampling::default().repetition_penalty)]
    repetition_penalty: f64,
    /// Last tokens that the penalty meets
    #[arg(long, default_value_t = Sampling::default().repetition_window)]
    repetition_window: usize,
    /// The penalty meets tokens of the prompt as well, references included
    #[arg(long)]
    repetition_in_prompt: bool,
    /// Most tokens of the answer
    #[arg(long, default_value_t = Sampling::default().max_tokens)]
    max_tokens: usize,
    /// Text that ends the answer and is not shown; may be given several times
    #[arg(long)]
    stop: Vec<String>,
}

impl Arguments {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            repetition_window: self.repetition_window,
            repetition_in_prompt: self.repetition_in_prompt,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop_strings: self.stop.clone(),
        }
    }
}

/// What `--json` prints; an interface to other programs.
#[derive(Serialize)]
struct Output<'a> {
    answer: &'a str,
    sentences: Vec<SentenceOutput<'a>>,
    references: Vec<ReferenceOutput<'a>>,
    safety: SafetyOutput<'a>,
    abstained: bool,
    tokens: usize,
    /// The graphics processor that the answer was finished on, `null` for the CPU.
    gpu: Option<String>,
    timings_ms: TimingsOutput,
}

#[derive(Serialize)]
struct SentenceOutput<'a> {
    text: &'a str,
    supported: bool,
    citations: &'a [usize],
}

#[derive(Serialize)]
struct ReferenceOutput<'a> {
    n: usize,
    id: &'a str,
    question: &'a str,
    answer: &'a str,
    source: &'a str,
    department: &'a str,
    score: f32,
}

#[derive(Serialize)]
struct SafetyOutput<'a> {
    red_flags: Vec<RedFlagOutput>,
    notices: &'a [String],
}

#[derive(Serialize)]
struct RedFlagOutput {
    id: &'static str,
    advice: &'static str,
}

#[derive(Serialize)]
struct TimingsOutput {
    embed: f64,
    retrieve: f64,
    excerpt: f64,
    read_ahead: f64,
    prefill: f64,
    first_token: f64,
    decode: f64,
}

impl From<Timings> for TimingsOutput {
    fn from(timings: Timings) -> Self {
        let Timings { embed, retrieve, excerpt, read_ahead, prefill, first_token, decode } = timings;
        Self { embed, retrieve, excerpt, read_ahead, prefill, first_token, decode }
    }
}

#[derive(Deserialize)]
struct HistoryTurn {
    role: HistoryRole,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum HistoryRole {
    Patient,
    Assistant,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let question = Question::new(&arguments.question)?;
    let conversation = history(arguments)?;
    let sampling = arguments.sampling();
    // Emergency advice must not wait for models, and must not be lost when one can't be loaded.
    for flag in red_flags(question.text(), conversation.patient_texts()) {
        eprintln!("【紧急】{}", flag.advice);
    }
    sampling.check()?;
    let retriever = huatuo_native::retriever(arguments.retriever.as_deref(), arguments.index.as_deref())?;
    let mut generator = match arguments.references_only {
        true => None,
        false => Some(huatuo_native::generator(arguments.generator.as_deref(), arguments.device)?),
    };
    if let Some(generator) = &mut generator {
        generator.set_sampling(sampling);
    }
    let live = !arguments.json;
    if let Some(device) = generator.as_ref().and_then(|generator| generator.gpu()).filter(|_| live) {
        eprintln!("（{}）", device.name());
    }
    let mut observer = |event: Event<'_>| {
        if live {
            print_event(&event);
        }
        ControlFlow::Continue(())
    };
    let result = pollster::block_on(consult(
        &question,
        &conversation,
        &retriever,
        generator.as_mut(),
        Limits::new(now_ms),
        &mut observer,
    ))?;
    if live {
        print_references(&result);
    } else {
        let gpu = generator.as_ref().and_then(|generator| Some(generator.gpu()?.name()));
        println!("{}", serde_json::to_string(&output(&result, gpu))?);
    }
    Ok(())
}

fn history(arguments: &Arguments) -> Result<Conversation> {
    let Some(path) = &arguments.history else { return Ok(Conversation::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let turns: Vec<HistoryTurn> = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a list of {{\"role\", \"text\"}}", path.display()))?;
    let turn = |turn: HistoryTurn| Turn {
        role: match turn.role {
            HistoryRole::Patient => Role::Patient,
            HistoryRole::Assistant => Role::Assistant,
        },
        text: turn.text,
    };
    Ok(Conversation { turns: turns.into_iter().map(turn).collect() })
}

fn print_event(event: &Event<'_>) {
    match event {
        Event::Text(text) => {
            print!("{text}");
            let _ = std::io::stdout().flush(); // a closed pipe ends the program at the next line
        }
        Event::Notice(notice) => print!("\n\n（{notice}）"),
        Event::RedFlags(_) | Event::References(_) | Event::Sentence(_) => {}
    }
}

fn print_references(result: &Consultation) {
    println!("\n");
    for (n, reference) in result.references.iter().enumerate() {
        println!("[{}] {}（{}，相似度 {:.2}）", n + 1, reference.question, reference.id, reference.score);
        println!("    {}", reference.answer);
    }
    for sentence in result.sentences.iter().filter(|sentence| !sentence.supported) {
        println!("未找到依据：{}", sentence.text);
    }
}

fn output(result: &Consultation, gpu: Option<String>) -> Output<'_> {
    Output {
        answer: &result.answer,
        sentences: (result.sentences.iter())
            .map(|s| SentenceOutput { text: &s.text, supported: s.supported, citations: &s.citations })
            .collect(),
        references: (result.references.iter().enumerate())
            .map(|(i, r)| ReferenceOutput {
                n: i + 1,
                id: &r.id,
                question: &r.question,
                answer: &r.answer,
                source: &r.source,
                department: &r.department,
                score: r.score,
            })
            .collect(),
        safety: SafetyOutput {
            red_flags: result.red_flags.iter().map(|f| RedFlagOutput { id: f.id, advice: f.advice }).collect(),
            notices: &result.notices,
        },
        abstained: result.abstained,
        tokens: result.generation.tokens,
        gpu,
        timings_ms: result.timings.into(),
    }
}
