//! A decoder network as data.

use huatuo_compute::{Attention, Encoding, Pairing, Precision};

use crate::weights::Wanted;
use crate::{GenerateError, GgufHeader};

/// Bounds beyond which a description is damaged, not large.
const MAX_LAYERS: u64 = 512;
const MAX_WIDTH: u64 = 1 << 20;

/// A kind of checkpoint, by GGUF's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Baichuan and Baichuan2: HuatuoGPT-7B, HuatuoGPT-II. Large ones have linear biases in place of rotary positions.
    Baichuan,
    /// ChatGLM2 and ChatGLM3: fused projections, rotary positions on half of each head.
    ChatGlm,
    /// Llama 1 to 3: HuatuoGPT-13B, HuatuoGPT-o1-8B.
    Llama,
    /// Qwen2 and Qwen2.5: HuatuoGPT-o1-7B.
    Qwen2,
    /// Qwen3: queries and keys normed by head.
    Qwen3,
}

impl Family {
    /// All families, for messages and tests.
    pub const ALL: [Self; 5] = [Self::Baichuan, Self::ChatGlm, Self::Llama, Self::Qwen2, Self::Qwen3];

    /// `general.architecture` in GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baichuan => "baichuan",
            Self::ChatGlm => "chatglm",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    fn has_qkv_bias(self) -> bool {
        matches!(self, Self::ChatGlm | Self::Qwen2)
    }

    fn pairing(self) -> Pairing {
        match self {
            Self::Qwen2 | Self::Qwen3 => Pairing::Halves,
            // GGUF files of these have the rows of queries and keys reordered so that pairs are neighbours.
            Self::Baichuan | Self::ChatGlm | Self::Llama => Pairing::Neighbours,
        }
    }
}

/// How a token learns where it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Rotary embedding (Su et al. 2021) on the first numbers of each head.
    Rotary {
        /// Numbers of a head that are turned.
        dimensions: usize,
        /// Base of the frequencies.
        theta: f32,
        /// What all positions are divided by (linear scaling), 1 for none.
        divisor: f32,
        /// Which numbers form a pair.
        pairing: Pairing,
    },
    /// Linear biases (Press et al. 2022), the steepest 2⁻⁸ᐟʰᵉᵃᵈˢ.
    LinearBias,
}

/// What distinguishes one decoder from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The kind of checkpoint.
    pub family: Family,
    /// Transformer blocks.
    pub layers: usize,
    /// Numbers in a token's residual stream.
    pub hidden: usize,
    /// Numbers in the feed-forward layer.
    pub feed_forward: usize,
    /// Heads.
    pub attention: Attention,
    /// Longest sequence the model was made for, in tokens.
    pub context: usize,
    /// Positions.
    pub position: Position,
    /// Added under the root of each norm.
    pub norm_epsilon: f32,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether queries, keys and values are one matrix in the file, and gate and up another.
    pub fused: bool,
    /// Whether the heads of queries and keys are normed.
    pub qk_norm: bool,
    /// How keys and values are cached: in single precision where the weights are, else in half.
    pub cache_precision: Precision,
}

impl Architecture {
    /// Reads the description from a file's metadata.
    pub fn from_gguf(gguf: &GgufHeader) -> Result<Self, GenerateError> {
        let name = gguf.text("general.architecture")?;
        let family = Family::ALL.into_iter().find(|family| family.name() == name);
        let family = family.ok_or_else(|| GenerateError::UnsupportedArchitecture(name.to_owned()))?;
        Keys { gguf, family }.architecture()
    }

    /// The tensors of this network, in the file's names.
    pub(crate) fn tensors(&self, gguf: &GgufHeader) -> Result<Vec<Wanted>, GenerateError> {
        let (hidden, ff, query, kv) = (self.hidden, self.feed_forward, self.query_width(), self.kv_width());
        let embedding = &gguf.entry("token_embd.weight")?.shape;
        let vocabulary = embedding.first().copied().unwrap_or(0);
        if vocabulary == 0 {
            let (name, expected, found) = ("token_embd.weight".to_owned(), vec![1, hidden], embedding.clone());
            return Err(GenerateError::WrongShape { name, expected, found });
        }
        let mut list = TensorList::default();
        list.matrix("token_embd.weight", &[vocabulary], hidden);
        list.vector("output_norm.weight", &[hidden]);
        if gguf.entry("output.weight").is_ok() {
            list.matrix("output.weight", &[vocabulary], hidden);
        }
        if let (Position::Rotary { dimensions, .. }, Ok(_)) = (&self.position, gguf.entry(ROPE_FACTORS)) {
            list.vector(ROPE_FACTORS, &[dimensions / 2]);
        }
        for i in 0..self.layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            let qkv: &[(&str, &[usize])] = match self.fused {
                true => &[("attn_qkv", &[query, kv, kv])],
                false => &[("attn_q", &[query]), ("attn_k", &[kv]), ("attn_v", &[kv])],
            };
            for (part, rows) in qkv {
                list.matrix(&name(&format!("{part}.weight")), rows, hidden);
                if self.qkv_bias {
                    list.vector(&name(&format!("{part}.bias")), rows);
                }
            }
            let gate_up: &[(&str, &[usize])] = match self.fused {
                true => &[("ffn_up.weight", &[ff, ff])],
                false => &[("ffn_gate.weight", &[ff]), ("ffn_up.weight", &[ff])],
            };
            gate_up.iter().for_each(|(part, rows)| list.matrix(&name(part), rows, hidden));
            list.matrix(&name("attn_output.weight"), &[hidden], query);
            list.matrix(&name("ffn_down.weight"), &[hidden], ff);
            list.vector(&name("attn_norm.weight"), &[hidden]);
            list.vector(&name("ffn_norm.weight"), &[hidden]);
            if self.qk_norm {
                list.vector(&name("attn_q_norm.weight"), &[self.attention.head_dim]);
                list.vector(&name("attn_k_norm.weight"), &[self.attention.head_dim]);
            }
        }
        Ok(list.wanted)
    }

    /// Bytes of the keys and values of so many tokens, no more than the model was made for.
    pub(crate) fn cache_bytes(&self, tokens: usize) -> u64 {
        let number = match self.cache_precision {
            Precision::F32 => 4,
            Precision::F16 => 2,
        };
        let numbers = [self.layers, self.kv_width(), tokens.min(self.context)];
        numbers.into_iter().fold(2 * number, |bytes: u64, n| bytes.saturating_mul(n as u64))
    }

    /// Numbers in the queries of one token.
    pub fn query_width(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    /// Numbers in the keys (or values) of one token.
    pub fn kv_width(&self) -> usize {
        self.attention.kv_heads * self.attention.head_dim
    }
}

/// What Llama 3 files divide the rotary frequencies by.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

#[derive(Default)]
struct TensorList {
    wanted: Vec<Wanted>,
}

impl TensorList {
    /// A matrix whose rows are several weights', one after the other.
    fn matrix(&mut self, name: &str, parts: &[usize], columns: usize) {
        let rows = parts.iter().sum();
        self.push(name, vec![rows, columns], parts);
    }

    fn vector(&mut self, name: &str, parts: &[usize]) {
        self.push(name, vec![parts.iter().sum()], parts);
    }

    fn push(&mut self, name: &str, shape: Vec<usize>, parts: &[usize]) {
        let mut end = 0;
        let parts = parts.iter().map(|rows| {
            end += rows;
            end - rows..end
        });
        self.wanted.push(Wanted { name: name.to_owned(), shape, parts: parts.collect() });
    }
}

/// Layers from which on a Baichuan is the large kind, which has no rotary positions (as llama.cpp tells them apart).
const LARGE_BAICHUAN_LAYERS: usize = 40;

/// Metadata keys of one family.
struct Keys<'a> {
    gguf: &'a GgufHeader,
    family: Family,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.name())
    }

    /// A size: positive and sane.
    fn size(&self, name: &str, most: u64) -> Result<usize, GenerateError> {
        let key = self.key(name);
        match self.gguf.integer(&key)? {
            value if (1..=most).contains(&value) => Ok(value as usize),
            value => Err(bad(key, value, "a positive number of sane size")),
        }
    }

    fn size_or(&self, name: &str, most: u64, default: usize) -> Result<usize, GenerateError> {
        match self.gguf.metadata(&self.key(name)) {
            Some(_) => self.size(name, most),
            None => Ok(default),
        }
    }

    /// A number above 0.
    fn factor(&self, name: &str, default: f64) -> Result<f32, GenerateError> {
        let key = self.key(name);
        let value = self.gguf.float_or(&key, default)?;
        if value > 0.0 && (value as f32).is_finite() {
            return Ok(value as f32);
        }
        Err(bad(key, value as u64, "a positive number"))
    }

    fn architecture(&self) -> Result<Architecture, GenerateError> {
        let (hidden, heads) =
            (self.size("embedding_length", MAX_WIDTH)?, self.size("attention.head_count", MAX_WIDTH)?);
        let kv_heads = self.size_or("attention.head_count_kv", MAX_WIDTH, heads)?;
        let head_dim = match self.gguf.metadata(&self.key("attention.key_length")) {
            Some(_) => self.size("attention.key_length", MAX_WIDTH)?,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(bad(self.key("attention.head_count"), heads as u64, "a divisor of the width")),
        };
        if self.size_or("attention.value_length", MAX_WIDTH, head_dim)? != head_dim {
            return Err(bad(self.key("attention.value_length"), 0, "the length of a key"));
        }
        if heads % kv_heads != 0 {
            return Err(bad(self.key("attention.head_count_kv"), kv_heads as u64, "a divisor of the number of heads"));
        }
        if heads.checked_mul(head_dim).is_none_or(|width| width > MAX_WIDTH as usize) {
            return Err(bad(self.key("attention.key_length"), head_dim as u64, "of sane size"));
        }
        let layers = self.size("block_count", MAX_LAYERS)?;
        Ok(Architecture {
            family: self.family,
            layers,
            hidden,
            feed_forward: self.size("feed_forward_length", MAX_WIDTH)?,
            attention: Attention { heads, kv_heads, head_dim },
            context: self.size("context_length", 1 << 24)?,
            position: self.position(head_dim, layers)?,
            norm_epsilon: self.factor("attention.layer_norm_rms_epsilon", 1e-6)?,
            qkv_bias: self.family.has_qkv_bias(),
            fused: self.family == Family::ChatGlm,
            qk_norm: self.family == Family::Qwen3,
            cache_precision: match self.gguf.entry("blk.0.attn_output.weight")?.encoding {
                Encoding::F32 => Precision::F32,
                _ => Precision::F16,
            },
        })
    }

    fn position(&self, head_dim: usize, layers: usize) -> Result<Position, GenerateError> {
        if self.family == Family::Baichuan && layers >= LARGE_BAICHUAN_LAYERS {
            return Ok(Position::LinearBias);
        }
        let dimensions = self.size_or("rope.dimension_count", MAX_WIDTH, head_dim)?;
        if dimensions > head_dim || !dimensions.is_multiple_of(2) {
            let key = self.key("rope.dimension_count");
            return Err(bad(key, dimensions as u64, "an even number up to a head's length"));
        }
        let divisor = match self.gguf.text(&self.key("rope.scaling.type")) {
            Err(_) | Ok("none") => 1.0,
            Ok("linear") => self.factor("rope.scaling.factor", 1.0)?,
            Ok(other) => return Err(GenerateError::UnsupportedRope(other.to_owned())),
        };
        let theta = self.factor("rope.freq_base", 10_000.0)?;
        Ok(Position::Rotary { dimensions, theta, divisor, pairing: self.family.pairing() })
    }
}

fn bad(key: String, value: u64, expected: &'static str) -> GenerateError {
    GenerateError::BadParameter { key, value, expected }
}
