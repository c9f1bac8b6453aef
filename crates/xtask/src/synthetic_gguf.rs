//! Random-weight Qwen2 files for measurements: the shapes of published models with a vocabulary of 32,000.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

/// A network's shape.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// For people.
    pub name: &'static str,
    layers: usize,
    heads: usize,
    /// Numbers of a head.
    head: usize,
    kv_width: usize,
    feed_forward: usize,
}

/// Qwen2-0.5B.
pub const SMALL: Shape = Shape { name: "0.5B", layers: 24, heads: 14, head: 64, kv_width: 128, feed_forward: 4864 };
/// The same with as many layers as make a Q8_0 file of a gigabyte.
pub const DEEP: Shape = Shape { layers: 63, ..SMALL };
/// Qwen2-1.5B.
pub const MIDDLE: Shape = Shape { name: "1.5B", layers: 28, heads: 12, head: 128, kv_width: 256, feed_forward: 8960 };
/// Qwen2-7B.
pub const LARGE: Shape = Shape { name: "7B", layers: 28, heads: 28, head: 128, kv_width: 512, feed_forward: 18_944 };

const VOCABULARY: usize = 32_000;
const CONTEXT: usize = 2048;
const ALIGNMENT: usize = 32;

/// How the matrices are stored.
#[derive(Clone, Copy, Debug)]
pub enum Quantization {
    Q4_0,
    Q8_0,
    Q4K,
    F16,
}

impl Quantization {
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::F16 => "F16",
        }
    }

    fn ggml_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::F16 => 1,
        }
    }

    /// Heads of a shape; the width must be a multiple of a block (0.5B's 14 heads become 16 in K-quants).
    fn heads(self, shape: Shape) -> usize {
        shape.heads.next_multiple_of(self.block().0.div_ceil(shape.head))
    }

    /// Weights and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::F16 => (1, 2),
        }
    }

    /// The block's first bytes, half-precision scales that give weights of about 0.03; what follows is random.
    fn scales(self) -> &'static [u8] {
        match self {
            Self::Q4_0 => &[0x00, 0x1c],            // 2⁻⁸
            Self::Q8_0 => &[0x00, 0x0c],            // 2⁻¹²
            Self::Q4K => &[0x00, 0x08, 0x00, 0x14], // 2⁻¹³, and 2⁻¹⁰ for the minimums
            Self::F16 => &[],
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
        self.quantized.map_or(numbers * 4, |q| numbers / q.block().0 * q.block().1)
    }
}

/// Writes the file unless it is there; gives its size in bytes.
pub fn write(path: &Path, quantization: Quantization, shape: Shape) -> Result<u64> {
    if let Ok(found) = path.metadata() {
        return Ok(found.len());
    }
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::new(File::create(&unfinished)?);
    let tensors = tensors(quantization, shape);
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((tensors.len() as u64).to_le_bytes());
    metadata(&mut header, quantization.heads(shape), shape);
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
    // Repeated from one matrix into the next: making each of billions of weights anew takes minutes.
    let blocks = random_blocks(quantization);
    for tensor in &tensors {
        let bytes = tensor.bytes();
        match tensor.quantized {
            Some(_) => {
                let mut left = bytes;
                while left > 0 {
                    let piece = left.min(blocks.len());
                    out.write_all(&blocks[..piece])?;
                    left -= piece;
                }
            }
            None => {
                for _ in 0..tensor.shape[0] {
                    out.write_all(&tensor.fill.to_le_bytes())?;
                }
            }
        }
        out.write_all(&vec![0; bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    out.into_inner()?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    Ok(path.metadata()?.len())
}

/// Some megabytes of random blocks.
fn random_blocks(quantization: Quantization) -> Vec<u8> {
    const BLOCKS: usize = 99_991; // prime: rows of a matrix don't repeat
    let (_, block_bytes) = quantization.block();
    let mut bytes = Vec::with_capacity(BLOCKS * block_bytes);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u32
    };
    for _ in 0..BLOCKS {
        if matches!(quantization, Quantization::F16) {
            bytes.extend((0x2400 | next() as u16 & 0x83ff).to_le_bytes()); // ±2⁻⁶ to ±2⁻⁵
            continue;
        }
        bytes.extend(quantization.scales());
        for _ in 0..(block_bytes - quantization.scales().len()) / 4 {
            bytes.extend(next().to_le_bytes());
        }
    }
    bytes
}

fn tensors(quantization: Quantization, shape: Shape) -> Vec<Tensor> {
    let Shape { layers, kv_width, feed_forward, .. } = shape;
    let hidden = quantization.heads(shape) * shape.head;
    let matrix = |name: String, rows: usize, columns: usize| Tensor {
        name,
        shape: vec![rows, columns],
        quantized: Some(quantization),
        fill: 0.0,
    };
    let vector = |name: String, len: usize, fill: f32| Tensor { name, shape: vec![len], quantized: None, fill };
    let mut tensors = vec![
        matrix("token_embd.weight".to_owned(), VOCABULARY, hidden),
        matrix("output.weight".to_owned(), VOCABULARY, hidden),
        vector("output_norm.weight".to_owned(), hidden, 1.0),
    ];
    for i in 0..layers {
        let name = |part: &str| format!("blk.{i}.{part}");
        for (part, rows) in [("attn_q", hidden), ("attn_k", kv_width), ("attn_v", kv_width)] {
            tensors.push(matrix(name(&format!("{part}.weight")), rows, hidden));
            tensors.push(vector(name(&format!("{part}.bias")), rows, 0.0));
        }
        tensors.push(matrix(name("attn_output.weight"), hidden, hidden));
        tensors.push(matrix(name("ffn_gate.weight"), feed_forward, hidden));
        tensors.push(matrix(name("ffn_up.weight"), feed_forward, hidden));
        tensors.push(matrix(name("ffn_down.weight"), hidden, feed_forward));
        tensors.push(vector(name("attn_norm.weight"), hidden, 1.0));
        tensors.push(vector(name("ffn_norm.weight"), hidden, 1.0));
    }
    tensors
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The description, and a byte-level vocabulary that llama.cpp accepts: 256 bytes, one merge, the rest marks `<tN>`.
fn metadata(out: &mut Vec<u8>, heads: usize, shape: Shape) {
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
        ("qwen2.block_count", shape.layers),
        ("qwen2.context_length", CONTEXT),
        ("qwen2.embedding_length", heads * shape.head),
        ("qwen2.feed_forward_length", shape.feed_forward),
        ("qwen2.attention.head_count", heads),
        ("qwen2.attention.head_count_kv", shape.kv_width / shape.head),
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
