//! Random-weight Qwen2 files for measurements: the shape of a 0.5B model with a vocabulary of 32,000.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

const LAYERS: usize = 24;
const HIDDEN: usize = 896;
const HEADS: usize = 14;
const KV_WIDTH: usize = 128;
const FEED_FORWARD: usize = 4864;
const VOCABULARY: usize = 32_000;
const CONTEXT: usize = 2048;
const ALIGNMENT: usize = 32;

/// A quantization with blocks of 32 and one half-precision scale in front.
#[derive(Clone, Copy, Debug)]
pub enum Quantization {
    Q4_0,
    Q8_0,
}

impl Quantization {
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q8_0 => "Q8_0",
        }
    }

    fn ggml_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q8_0 => 34,
        }
    }

    /// A scale, in half precision, that gives weights of about 0.03.
    fn scale(self) -> u16 {
        match self {
            Self::Q4_0 => 0x1c00, // 2⁻⁸
            Self::Q8_0 => 0x0c00, // 2⁻¹²
        }
    }
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// `None` for vectors of f32 ones or zeros.
    quantized: Option<Quantization>,
    fill: f32,
}

impl Tensor {
    fn bytes(&self) -> usize {
        let numbers: usize = self.shape.iter().product();
        self.quantized.map_or(numbers * 4, |q| numbers / 32 * q.block_bytes())
    }
}

/// Writes the file unless it is there; gives its size in bytes.
pub fn write(path: &Path, quantization: Quantization) -> Result<u64> {
    if let Ok(found) = path.metadata() {
        return Ok(found.len());
    }
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    let tensors = tensors(quantization);
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((tensors.len() as u64).to_le_bytes());
    metadata(&mut header);
    let mut offset = 0usize;
    for tensor in &tensors {
        text(&mut header, &tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|n| header.extend((*n as u64).to_le_bytes()));
        header.extend(tensor.quantized.map_or(0, Quantization::ggml_type).to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&header)?;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for tensor in &tensors {
        let mut bytes = Vec::with_capacity(tensor.bytes());
        match tensor.quantized {
            Some(quantization) => {
                while bytes.len() < tensor.bytes() {
                    bytes.extend(quantization.scale().to_le_bytes());
                    for _ in 0..quantization.block_bytes() / 8 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        bytes.extend(random.to_le_bytes());
                    }
                }
            }
            None => (0..tensor.shape[0]).for_each(|_| bytes.extend(tensor.fill.to_le_bytes())),
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&bytes)?;
    }
    out.into_inner()?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    Ok(path.metadata()?.len())
}

fn tensors(quantization: Quantization) -> Vec<Tensor> {
    let matrix = |name: String, rows: usize, columns: usize| Tensor {
        name,
        shape: vec![rows, columns],
        quantized: Some(quantization),
        fill: 0.0,
    };
    let vector = |name: String, len: usize, fill: f32| Tensor { name, shape: vec![len], quantized: None, fill };
    let mut tensors = vec![
        matrix("token_embd.weight".to_owned(), VOCABULARY, HIDDEN),
        matrix("output.weight".to_owned(), VOCABULARY, HIDDEN),
        vector("output_norm.weight".to_owned(), HIDDEN, 1.0),
    ];
    for i in 0..LAYERS {
        let name = |part: &str| format!("blk.{i}.{part}");
        for (part, rows) in [("attn_q", HIDDEN), ("attn_k", KV_WIDTH), ("attn_v", KV_WIDTH)] {
            tensors.push(matrix(name(&format!("{part}.weight")), rows, HIDDEN));
            tensors.push(vector(name(&format!("{part}.bias")), rows, 0.0));
        }
        tensors.push(matrix(name("attn_output.weight"), HIDDEN, HIDDEN));
        tensors.push(matrix(name("ffn_gate.weight"), FEED_FORWARD, HIDDEN));
        tensors.push(matrix(name("ffn_up.weight"), FEED_FORWARD, HIDDEN));
        tensors.push(matrix(name("ffn_down.weight"), HIDDEN, FEED_FORWARD));
        tensors.push(vector(name("attn_norm.weight"), HIDDEN, 1.0));
        tensors.push(vector(name("ffn_norm.weight"), HIDDEN, 1.0));
    }
    tensors
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The description, and a byte-level vocabulary that llama.cpp accepts: 256 bytes, one merge, the rest marks `<tN>`.
fn metadata(out: &mut Vec<u8>) {
    let mut entries: Vec<(&str, Vec<u8>)> = Vec::new();
    let number = |n: u32| [&4u32.to_le_bytes()[..], &n.to_le_bytes()].concat();
    let float = |x: f32| [&6u32.to_le_bytes()[..], &x.to_le_bytes()].concat();
    let words = |word: &str| {
        let mut value = 8u32.to_le_bytes().to_vec();
        text(&mut value, word);
        value
    };
    let array = |kind: u32, count: usize, elements: Vec<u8>| {
        [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &(count as u64).to_le_bytes(), &elements].concat()
    };
    entries.push(("general.architecture", words("qwen2")));
    for (key, value) in [
        ("qwen2.block_count", LAYERS),
        ("qwen2.context_length", CONTEXT),
        ("qwen2.embedding_length", HIDDEN),
        ("qwen2.feed_forward_length", FEED_FORWARD),
        ("qwen2.attention.head_count", HEADS),
        ("qwen2.attention.head_count_kv", KV_WIDTH * HEADS / HIDDEN),
    ] {
        entries.push((key, number(value as u32)));
    }
    entries.push(("qwen2.rope.freq_base", float(1e6)));
    entries.push(("qwen2.attention.layer_norm_rms_epsilon", float(1e-6)));
    entries.push(("tokenizer.ggml.model", words("gpt2")));
    entries.push(("tokenizer.ggml.pre", words("qwen2")));
    let printable = (33..127).chain(161..173).chain(174..256).filter_map(char::from_u32);
    let mut tokens: Vec<String> = printable.map(String::from).collect();
    tokens.extend((256..512 - tokens.len() as u32).filter_map(char::from_u32).map(String::from));
    tokens.push("ab".to_owned());
    let ordinary = tokens.len();
    tokens.extend((0..VOCABULARY - ordinary).map(|i| format!("<t{i}>")));
    let mut elements = Vec::new();
    tokens.iter().for_each(|token| text(&mut elements, token));
    entries.push(("tokenizer.ggml.tokens", array(8, tokens.len(), elements)));
    let kinds = (0..tokens.len()).flat_map(|i| if i < ordinary { 1i32 } else { 4 }.to_le_bytes()).collect();
    entries.push(("tokenizer.ggml.token_type", array(5, tokens.len(), kinds)));
    let mut merge = Vec::new();
    text(&mut merge, "a b");
    entries.push(("tokenizer.ggml.merges", array(8, 1, merge)));
    entries.push(("tokenizer.ggml.bos_token_id", number(1)));
    entries.push(("tokenizer.ggml.eos_token_id", number(2)));
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        text(out, key);
        out.extend(value);
    }
}
