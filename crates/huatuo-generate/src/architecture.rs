//! A decoder network as data.

use huatuo_compute::Attention;

use crate::{GenerateError, Gguf, GgufError};

/// Bounds beyond which a description is damaged, not large.
const MAX_LAYERS: u64 = 512;
const MAX_WIDTH: u64 = 1 << 20;

/// What distinguishes one decoder from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
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
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added under the root of each norm.
    pub norm_epsilon: f32,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
}

impl Architecture {
    /// Reads the description from a file's metadata.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, GenerateError> {
        let family = gguf.text("general.architecture")?;
        if family != "qwen2" {
            return Err(GenerateError::UnsupportedArchitecture(family.to_owned()));
        }
        let number = |name: &str, most: u64| {
            let key = format!("{family}.{name}");
            match gguf.integer(&key)? {
                value if (1..=most).contains(&value) => Ok(value as usize),
                value => Err(GenerateError::BadParameter { key, value, expected: "a positive number of sane size" }),
            }
        };
        let (hidden, heads) = (number("embedding_length", MAX_WIDTH)?, number("attention.head_count", MAX_WIDTH)?);
        let kv_heads = number("attention.head_count_kv", MAX_WIDTH)?;
        let divides = |key: &str, a: usize, b: usize| match a % b {
            0 => Ok(()),
            _ => Err(GenerateError::BadParameter {
                key: format!("{family}.{key}"),
                value: b as u64,
                expected: "a divisor of the width above it",
            }),
        };
        divides("attention.head_count", hidden, 2 * heads)?; // rotary pairs need an even head
        divides("attention.head_count_kv", heads, kv_heads)?;
        let (rope_theta, norm_epsilon) = (
            gguf.float_or(&format!("{family}.rope.freq_base"), 10_000.0)? as f32,
            gguf.float_or(&format!("{family}.attention.layer_norm_rms_epsilon"), 1e-6)? as f32,
        );
        if rope_theta < 1.0 || norm_epsilon < 0.0 {
            return Err(
                GgufError::Metadata { key: format!("{family}.rope.freq_base"), expected: "of sane size" }.into()
            );
        }
        Ok(Self {
            layers: number("block_count", MAX_LAYERS)?,
            hidden,
            feed_forward: number("feed_forward_length", MAX_WIDTH)?,
            attention: Attention { heads, kv_heads, head_dim: hidden / heads },
            context: number("context_length", 1 << 24)?,
            rope_theta,
            norm_epsilon,
            qkv_bias: true,
        })
    }

    /// Numbers in the keys (or values) of one token.
    pub fn kv_width(&self) -> usize {
        self.attention.kv_heads * self.attention.head_dim
    }
}
