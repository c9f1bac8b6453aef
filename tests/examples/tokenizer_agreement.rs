//! Counts the texts on which a GGUF file's tokenizer agrees with a reference; `tests/golden/tokenizers.py` runs it.
//!
//! usage: tokenizer_agreement JOBS.json (from the repository's root): a list of `{model, texts, ids}`

use std::time::Instant;

use huatuo_generate::{Gguf, TextTokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Job {
    model: String,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

fn main() {
    let path = std::env::args().nth(1).expect("a file of jobs");
    let jobs: Vec<Job> = serde_json::from_slice(&std::fs::read(path).expect("a readable file")).expect("jobs");
    for job in jobs {
        let bytes = std::fs::read(&job.model).expect("a readable model");
        let tokenizer = TextTokenizer::from_gguf(&Gguf::parse(&bytes).expect("GGUF")).expect("a tokenizer");
        let started = Instant::now();
        let differs = |(text, ids): &(&String, &Vec<u32>)| tokenizer.encode(text).expect("tokens") != **ids;
        let wrong: Vec<_> = job.texts.iter().zip(&job.ids).filter(differs).collect();
        let (all, tokens) = (job.texts.len(), job.ids.iter().map(Vec::len).sum::<usize>());
        println!("{}: {} of {all} agree ({tokens} tokens, {:.1?})", job.model, all - wrong.len(), started.elapsed());
        wrong.iter().take(3).for_each(|(text, ids)| {
            println!("  {text:?}\n  reference {ids:?}\n  here      {:?}", tokenizer.encode(text).expect("tokens"));
        });
    }
}
