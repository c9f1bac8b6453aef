//! What `config.json` says about a network, and the metadata that says the same in GGUF.

use serde_json::Value;

use super::ConvertError;
use crate::{Family, MetadataValue};

/// Sizes beyond which a description is damaged, not large.
const MAX_SIZE: u64 = 1 << 24;
const MAX_LAYERS: usize = 512;
/// Baichuan2's vocabulary, by which its normalised output head is told apart (as its publishers' code does).
const BAICHUAN2_VOCABULARY: usize = 125_696;

/// A network's description.
#[derive(Clone, Debug)]
pub struct Config {
    /// The kind of network.
    pub family: Family,
    /// Transformer blocks.
    pub layers: usize,
    /// Numbers in a token's residual stream.
    pub hidden: usize,
    /// Numbers in the feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Whether the output head is the embedding.
    pub tied: bool,
    context: usize,
    epsilon: f32,
    theta: f32,
    /// Numbers of a head that are turned.
    rotary: usize,
    scaling: Scaling,
}

/// How positions are stretched.
#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    Linear(f32),
    /// Llama 3: factor, low and high frequency factors, original context.
    Llama3([f32; 4]),
}

impl Config {
    /// Reads `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self, ConvertError> {
        let json: Value = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
        let fields = Fields(&json);
        let family = fields.family()?;
        let config = match family {
            Family::ChatGlm => fields.chatglm()?,
            _ => fields.llama_like(family)?,
        };
        let product = config.heads.saturating_mul(config.head_dim) as u64;
        if config.layers > MAX_LAYERS {
            return Err(bad(format!("{} layers are more than the {MAX_LAYERS} of any sane model", config.layers)));
        }
        if config.heads % config.kv_heads != 0 || config.head_dim % 2 != 0 || product > MAX_SIZE {
            let Config { heads, kv_heads, head_dim, .. } = config;
            return Err(bad(format!("{heads} heads of {head_dim} over {kv_heads} key heads are no attention")));
        }
        Ok(config)
    }

    /// Whether rows of the output head are to be divided by their length.
    pub fn normalises_head(&self) -> bool {
        self.family == Family::Baichuan && self.vocabulary == BAICHUAN2_VOCABULARY
    }

    /// Factors of the rotary frequencies (Llama 3), as its publishers' code computes them.
    pub fn rope_factors(&self) -> Option<Vec<f32>> {
        let Scaling::Llama3([factor, low, high, context]) = self.scaling else { return None };
        let factor_of = |pair: usize| {
            let frequency = self.theta.powf(-2.0 * pair as f32 / self.rotary as f32);
            let wavelength = 2.0 * std::f32::consts::PI / frequency;
            if wavelength < context / high {
                return 1.0;
            }
            if wavelength > context / low {
                return factor;
            }
            let smooth = (context / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        Some((0..self.rotary / 2).map(factor_of).collect())
    }

    /// The same in GGUF's keys.
    pub fn metadata(&self, name: &str) -> Vec<(String, MetadataValue)> {
        use MetadataValue::{Float, Text, Unsigned};
        let family = self.family.name();
        let size = |n: usize| Unsigned(n as u32); // at most MAX_SIZE
        let mut keys = vec![
            ("general.architecture".to_owned(), Text(family.to_owned())),
            ("general.name".to_owned(), Text(name.to_owned())),
            ("general.quantization_version".to_owned(), Unsigned(2)),
        ];
        let mut add = |key: &str, value| keys.push((format!("{family}.{key}"), value));
        add("vocab_size", size(self.vocabulary));
        add("context_length", size(self.context));
        add("embedding_length", size(self.hidden));
        add("feed_forward_length", size(self.feed_forward));
        add("block_count", size(self.layers));
        add("attention.head_count", size(self.heads));
        add("attention.head_count_kv", size(self.kv_heads));
        add("attention.key_length", size(self.head_dim));
        add("attention.value_length", size(self.head_dim));
        add("attention.layer_norm_rms_epsilon", Float(self.epsilon));
        add("rope.dimension_count", size(self.rotary));
        add("rope.freq_base", Float(self.theta));
        if let Scaling::Linear(factor) = self.scaling {
            add("rope.scaling.type", Text("linear".to_owned()));
            add("rope.scaling.factor", Float(factor));
        }
        keys
    }
}

fn bad(reason: String) -> ConvertError {
    ConvertError::BadFile { file: "config.json", reason }
}

/// Typed access to the JSON.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn family(&self) -> Result<Family, ConvertError> {
        let name = self.0["model_type"].as_str().unwrap_or_default();
        let family = Family::ALL.into_iter().find(|family| family.name() == name);
        family.ok_or_else(|| ConvertError::UnsupportedModel(name.to_owned()))
    }

    fn size(&self, key: &str) -> Result<usize, ConvertError> {
        match self.0[key].as_u64() {
            Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(n as usize),
            _ => Err(bad(format!("`{key}` is {}, expected a positive number of sane size", self.0[key]))),
        }
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, ConvertError> {
        if self.0[key].is_null() { Ok(default) } else { self.size(key) }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0[key].as_bool()
    }

    /// Refuses a setting of another value than the one all supported networks have.
    fn require(&self, key: &'static str, value: bool) -> Result<(), ConvertError> {
        match self.flag(key) {
            Some(found) if found != value => {
                Err(ConvertError::UnsupportedSetting { key, value: self.0[key].to_string() })
            }
            _ => Ok(()),
        }
    }

    fn llama_like(&self, family: Family) -> Result<Config, ConvertError> {
        self.require("mlp_bias", false)?;
        self.require("use_sliding_window", false)?;
        if family != Family::Qwen2 {
            self.require("attention_bias", false)?;
        }
        match self.0["hidden_act"].as_str() {
            None | Some("silu") => {}
            Some(other) => {
                return Err(ConvertError::UnsupportedSetting { key: "hidden_act", value: other.to_owned() });
            }
        }
        let (hidden, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        if self.0["head_dim"].is_null() && hidden % heads != 0 {
            return Err(bad(format!("`num_attention_heads` {heads} does not divide `hidden_size` {hidden}")));
        }
        let head_dim = self.size_or("head_dim", hidden / heads)?;
        let context = match family {
            Family::Baichuan => self.size_or("model_max_length", self.size_or("max_position_embeddings", 4096)?)?,
            _ => self.size("max_position_embeddings")?,
        };
        // Transformers 5 keeps base and scaling together, earlier versions apart.
        let joint = Fields(&self.0["rope_parameters"]);
        let scaling = if joint.0.is_object() { joint } else { Fields(&self.0["rope_scaling"]) };
        let theta = scaling.factor("rope_theta", self.factor("rope_theta", 10_000.0)?)?;
        Ok(Config {
            family,
            layers: self.size("num_hidden_layers")?,
            hidden,
            feed_forward: self.size("intermediate_size")?,
            heads,
            kv_heads: self.size_or("num_key_value_heads", heads)?,
            head_dim,
            vocabulary: self.size("vocab_size")?,
            tied: self.flag("tie_word_embeddings").unwrap_or(false),
            context,
            epsilon: self.factor("rms_norm_eps", 1e-6)?,
            theta,
            rotary: head_dim,
            scaling: scaling.scaling()?,
        })
    }

    fn chatglm(&self) -> Result<Config, ConvertError> {
        self.require("add_bias_linear", false)?;
        self.require("add_qkv_bias", true)?;
        self.require("apply_residual_connection_post_layernorm", false)?;
        self.require("post_layer_norm", true)?;
        self.require("rmsnorm", true)?;
        self.require("original_rope", true)?;
        let (hidden, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let head_dim = self.size("kv_channels")?;
        let grouped = self.flag("multi_query_attention").unwrap_or(false);
        Ok(Config {
            family: Family::ChatGlm,
            layers: self.size("num_layers")?,
            hidden,
            feed_forward: self.size("ffn_hidden_size")?,
            heads,
            kv_heads: if grouped { self.size("multi_query_group_num")? } else { heads },
            head_dim,
            vocabulary: self.size("padded_vocab_size")?,
            tied: self.flag("tie_word_embeddings").unwrap_or(false),
            context: self.size("seq_length")?,
            epsilon: self.factor("layernorm_epsilon", 1e-5)?,
            theta: 10_000.0 * self.factor("rope_ratio", 1.0)?,
            rotary: head_dim / 2,
            scaling: Scaling::None,
        })
    }

    /// A number above 0.
    fn factor(&self, key: &str, default: f32) -> Result<f32, ConvertError> {
        match &self.0[key] {
            Value::Null => Ok(default),
            value => match value.as_f64() {
                Some(x) if x > 0.0 && (x as f32).is_finite() && x as f32 > 0.0 => Ok(x as f32),
                _ => Err(bad(format!("`{key}` is {value}, expected a positive number"))),
            },
        }
    }

    fn scaling(&self) -> Result<Scaling, ConvertError> {
        let kind = self.0["rope_type"].as_str().or(self.0["type"].as_str());
        match kind {
            None | Some("default") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear(self.factor("factor", 1.0)?)),
            Some("llama3") => {
                let low = self.factor("low_freq_factor", 1.0)?;
                let high = self.factor("high_freq_factor", 4.0)?;
                let context = self.factor("original_max_position_embeddings", 8192.0)?;
                if high <= low {
                    return Err(bad(format!("`high_freq_factor` {high} is not above `low_freq_factor` {low}")));
                }
                Ok(Scaling::Llama3([self.factor("factor", 8.0)?, low, high, context]))
            }
            Some(other) => Err(ConvertError::UnsupportedSetting { key: "rope_scaling", value: other.to_owned() }),
        }
    }
}
