//! Readers of model files and indexes on damaged ones, and the worker on hostile requests: the inputs that fuzzing kept (`fuzz/corpus`), then changes of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use huatuo_compute::{Cpu, Encoding};
use huatuo_core::{Generator, Message, Prompt};
use huatuo_generate::{
    CheckpointFiles, Decoder, Gguf, LocalGenerator, MetadataValue, Mixture, NeverPause, TextTokenizer, convert,
};
use huatuo_tests::mutation::Mutator;
use huatuo_tests::reader_targets::{TARGETS, Target};
use huatuo_tests::{root, small_models};

/// How long changed inputs are tried, for each target.
const TIME: Duration = Duration::from_secs(5);
/// Longest that one input may take; the slowest takes a hundredth.
const MOST_TIME: Duration = Duration::from_secs(10);
/// What one allocation may ask for: a part that does not depend on the input (expressions that split texts), and bytes
/// for each byte of it (numbers that are padded to the width of the kernels, the room for the tokens of a chunk).
const MOST_BYTES: usize = 16 << 20;
const MOST_BYTES_PER_BYTE: usize = 256;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, taking note of the largest request of each thread.
struct Watched;

fn watch(layout: Layout) {
    LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch(layout);
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// What is wrong with how a target takes an input.
fn fault(target: Target, input: &[u8]) -> Option<String> {
    LARGEST.set(0);
    let started = Instant::now();
    let result = catch_unwind(|| target(input));
    let (elapsed, largest) = (started.elapsed(), LARGEST.get());
    if result.is_err() {
        return Some("it panics".to_owned());
    }
    if elapsed > MOST_TIME {
        return Some(format!("it takes {elapsed:?}"));
    }
    let most = MOST_BYTES + MOST_BYTES_PER_BYTE * input.len();
    (largest > most).then(|| format!("it asks for {largest} bytes at once for {} of input", input.len()))
}

/// Fails with the first faulty input, which is kept as a file.
fn expect_no_fault(name: &str, target: Target, input: &[u8], what: &str) {
    if let Some(fault) = fault(target, input) {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("malformed-{name}"));
        fs::write(&path, input).unwrap();
        panic!("{name}, {what}: {fault}; the input is kept in {}", path.display());
    }
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

fn check(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    for (path, input) in &corpus {
        expect_no_fault(name, target, input, path);
    }
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let (started, mut mutator, mut tried) = (Instant::now(), Mutator::new(1), 0);
    while started.elapsed() < TIME {
        expect_no_fault(name, target, &mutator.change(&inputs), &format!("change {tried}"));
        tried += 1;
    }
    println!("{name}: {} inputs of the corpus, {tried} changed ones", inputs.len());
}

#[test]
fn damaged_gguf_files_are_refused_or_read() {
    check("gguf");
}

#[test]
fn damaged_safetensors_files_are_refused_or_read() {
    check("safetensors");
}

#[test]
fn damaged_tokenizers_are_refused_or_read() {
    check("tokenizer");
}

#[test]
fn damaged_indexes_are_refused_or_read() {
    check("index");
}

#[test]
fn hostile_requests_are_refused_or_answered() {
    check("request");
}

#[test]
fn the_small_models_are_sound() {
    let (metadata, tokens) = small_models::byte_level();
    let model = small_models::gguf("qwen2", Encoding::Q8_0, metadata, tokens);
    LocalGenerator::load(Cpu::new(), &model, None, NeverPause).unwrap();
    for family in ["baichuan", "chatglm", "llama", "qwen2", "qwen3"] {
        let (metadata, tokens) = small_models::sentence_piece();
        let model = small_models::gguf(family, Encoding::Q4K, metadata, tokens);
        Decoder::load(Cpu::new(), &Gguf::parse(&model).unwrap()).unwrap();
        let (config, weights) = small_models::checkpoint(family, 4);
        let mut files = CheckpointFiles::default();
        files.insert("config.json", config.as_bytes());
        files.insert("model.safetensors", &weights);
        files.insert("tokenizer.json", small_models::BYTE_TOKENIZER.as_bytes());
        convert(&files, "test", Mixture::Uniform(Encoding::F32), Vec::new()).unwrap();
    }
    for json in small_models::OTHER_TOKENIZERS.into_iter().chain([small_models::WORD_TOKENIZER]) {
        TextTokenizer::from_json(json.as_bytes()).unwrap();
    }
}

#[test]
fn a_panic_and_a_giant_allocation_are_faults() {
    let input = [0; 10];
    assert_eq!(fault(|_| (), &input), None);
    assert_eq!(fault(|input| assert!(input.len() < 10), &input).unwrap(), "it panics");
    let giant = fault(|_| drop(std::hint::black_box(vec![0u8; 17 << 20])), &input).unwrap();
    assert_eq!(giant, "it asks for 17825792 bytes at once for 10 of input");
}

#[test]
fn changes_find_a_reader_that_believes_a_length() {
    let believes = |input: &[u8]| {
        let _ = input.first().map(|len| &input[1..][..usize::from(*len)]);
    };
    let sound = vec![vec![3, 1, 2, 3]];
    assert_eq!(fault(believes, &sound[0]), None);
    let mut mutator = Mutator::new(1);
    assert!((0..1000).any(|_| fault(believes, &mutator.change(&sound)).is_some()));
}

#[test]
fn a_model_without_a_token_is_refused() {
    let (metadata, _) = small_models::sentence_piece();
    let model = small_models::gguf("qwen3", Encoding::F32, metadata, 0);
    let error = Decoder::load(Cpu::new(), &Gguf::parse(&model).unwrap()).err().unwrap().to_string();
    assert_eq!(error, "tensor `token_embd.weight` has shape [0, 4], the model's description asks for [1, 4]");
}

#[test]
fn a_prompt_without_a_token_is_refused() {
    let (mut metadata, tokens) = small_models::sentence_piece();
    metadata.push(("tokenizer.chat_template".to_owned(), MetadataValue::Text("<病人>：<HuatuoGPT>：".to_owned())));
    metadata.push(("tokenizer.ggml.add_bos_token".to_owned(), MetadataValue::Bool(false)));
    let model = small_models::gguf("llama", Encoding::F32, metadata, tokens);
    let messages = vec![Message { role: "user", content: "头痛".to_owned() }];
    let prompt = Prompt { messages, references: Vec::new() };
    let json = r#"{"model":{"type":"BPE","vocab":{"x":0,"y":1,"z":2},"merges":[]}}"#;
    let mut generator = LocalGenerator::load(Cpu::new(), &model, Some(json.as_bytes()), NeverPause).unwrap();
    let error = pollster::block_on(generator.start(&prompt)).unwrap_err().to_string();
    assert!(error.contains("no token for any of the prompt"), "{error}");
}
