//! What is done with one input of unknown bytes, by a fuzzer (`fuzz/`) and by `tests/malformed_files.rs` alike. A
//! reader may refuse it; it may not panic, hang, or ask for memory that the input's size does not explain.

use std::sync::LazyLock;

use huatuo_compute::{Cpu, Encoding};
use huatuo_core::{Generator, Message, Prompt, PromptReference};
use huatuo_generate::{
    ChatTemplate, CheckpointFiles, Decoder, DecoderLoader, GenerateError, Gguf, GgufHeader, LocalGenerator, Mixture,
    ModelSummary, NeverPause, TextTokenizer, TokenStream, convert, quantize,
};
use huatuo_retrieve::{Encoder, EncoderPrecision, ModelFiles};

pub use crate::index_target::index;
pub use crate::request_target::request;
use crate::small_models::{self, BYTE_TOKENIZER};

/// Stands between the two files of an input of [`safetensors`]; JSON holds no such byte.
pub const SEPARATOR: u8 = 0;
/// Rows of the embeddings in the models that a tokenizer is tried with.
const ROWS: usize = 512;
/// Texts that a tokenizer is tried on: scripts, digits, marks, spaces, characters of several code points.
const TEXTS: [&str; 6] = [
    "",
    "血压160/95，头痛三天怎么办？",
    "  It's\t18 mg <|im_end|></s>[CLS]\n\n",
    "e\u{301}\u{1f468}\u{200d}\u{1f469}\u{fdfa}ﬁ\u{0}\u{10ffff}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "    ",
];

/// What is done with an input; it panics at what a reader must not do.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 5] =
    [("gguf", gguf), ("safetensors", safetensors), ("tokenizer", tokenizer), ("index", index), ("request", request)];

/// A model file: header, weights in one piece and in many, tokenizer, chat template, and a short answer.
pub fn gguf(bytes: &[u8]) {
    let whole = load(bytes, bytes.len().max(1));
    let pieces = load(bytes, 1 + bytes.len() / 7);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "a file is the same however it comes");
    if let Ok(gguf) = Gguf::parse(bytes) {
        let _ = ModelSummary::from_gguf(&gguf);
        let _ = quantize(&gguf, Mixture::Uniform(Encoding::Q8_0), Vec::new());
    }
    let Ok((mut decoder, header)) = whole else { return };
    let mut logits = vec![0.0; decoder.vocabulary()];
    let mut cache = decoder.new_cache();
    pollster::block_on(decoder.read(&[0], &mut cache, &mut logits)).expect("the processor computes");
    if let Ok(generator) = LocalGenerator::new(decoder, &header, None, NeverPause) {
        let _ = pollster::block_on(answer(generator));
    }
}

/// A checkpoint: `config.json`, [`SEPARATOR`], `model.safetensors`; as the retriever's encoder and as a generator to be
/// converted. The JSON stands for the encoder's other settings too.
pub fn safetensors(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == SEPARATOR).unwrap_or(bytes.len());
    let (config, weights) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    embed(config, weights, small_models::WORD_TOKENIZER.as_bytes());
    let mut files = CheckpointFiles::default();
    files.insert("tokenizer.json", BYTE_TOKENIZER.as_bytes());
    convert_and_load(files, config, weights);
}

/// A tokenizer: a model file's own (GGUF), a `tokenizer.json`, or SentencePiece's `tokenizer.model`.
pub fn tokenizer(bytes: &[u8]) {
    static CHECKPOINT: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| small_models::checkpoint("llama", ROWS));
    static ENCODER: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| small_models::encoder(ROWS));
    let mut files = CheckpointFiles::default();
    match bytes.first() {
        Some(b'G') => {
            if let Ok(gguf) = Gguf::parse(bytes) {
                try_tokenizer(TextTokenizer::from_gguf(&gguf), Some(&gguf));
            }
            return;
        }
        Some(b'{') => {
            try_tokenizer(TextTokenizer::from_json(bytes), None);
            embed(ENCODER.0.as_bytes(), &ENCODER.1, bytes);
            files.insert("tokenizer.json", bytes);
        }
        _ => files.insert("tokenizer.model", bytes),
    }
    convert_and_load(files, CHECKPOINT.0.as_bytes(), &CHECKPOINT.1);
}

fn load(bytes: &[u8], piece: usize) -> Result<(Decoder<Cpu>, GgufHeader), GenerateError> {
    let mut loader = DecoderLoader::new(Cpu::new(), bytes.len() as u64);
    bytes.chunks(piece).try_for_each(|piece| loader.push(piece))?;
    loader.finish()
}

fn prompt() -> Prompt {
    let messages = ["system", "user"].map(|role| Message { role, content: "头痛 3 天".to_owned() });
    let references = vec![PromptReference { id: "r".to_owned(), answer: "多休息。a".to_owned(), score: 0.9 }];
    Prompt { messages: messages.to_vec(), references }
}

async fn answer(mut generator: LocalGenerator<Cpu, NeverPause>) -> Result<(), GenerateError> {
    generator.start(&prompt()).await?;
    for _ in 0..3 {
        generator.next().await?;
    }
    Ok(())
}

fn embed(config: &[u8], weights: &[u8], tokenizer: &[u8]) {
    let mut files = ModelFiles::default();
    for path in ["config.json", "sentence_bert_config.json", "1_Pooling/config.json"] {
        files.insert(path, config.to_vec());
    }
    files.insert("modules.json", br#"[{"type":"Normalize"}]"#.to_vec());
    files.insert("model.safetensors", weights.to_vec());
    files.insert("tokenizer.json", tokenizer.to_vec());
    let Ok(encoder) = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32) else { return };
    for text in TEXTS {
        let _ = encoder.embed_words(text);
        if let Ok(vector) = pollster::block_on(encoder.embed(text)) {
            assert_eq!(vector.len(), encoder.dimensions());
        }
    }
}

/// Converts a checkpoint; what was written can be read.
fn convert_and_load<'a>(mut files: CheckpointFiles<'a>, config: &'a [u8], weights: &'a [u8]) {
    files.insert("config.json", config);
    files.insert("model.safetensors", weights);
    let mut out = Vec::new();
    if convert(&files, "test", Mixture::Uniform(Encoding::Q8_0), &mut out).is_ok() {
        let gguf = Gguf::parse(&out).expect("a file that this program wrote");
        try_tokenizer(TextTokenizer::from_gguf(&gguf), Some(&gguf));
        let _ = Decoder::load(Cpu::new(), &gguf);
    }
}

fn try_tokenizer(tokenizer: Result<TextTokenizer, GenerateError>, header: Option<&GgufHeader>) {
    let Ok(tokenizer) = tokenizer else { return };
    let mut stream = TokenStream::default();
    for text in TEXTS {
        let Ok(ids) = tokenizer.encode(text) else { continue };
        for id in ids {
            assert!((id as usize) < tokenizer.len(), "{id}");
            let _ = tokenizer.step(&mut stream, id);
        }
    }
    for id in 0..tokenizer.len().min(ROWS) as u32 {
        let _ = (tokenizer.raw_token(id), tokenizer.step(&mut TokenStream::default(), id));
    }
    if let Some(Ok(template)) = header.map(ChatTemplate::from_gguf) {
        let _ = template.encode(&prompt().messages, &tokenizer);
    }
}
