//! The one decoder: pre-norm blocks with grouped-query attention and a gated feed-forward layer.

use std::ops::Range;

use huatuo_compute::{ComputeError, Device, Encoding, Linear, Pairing, Precision, Projection, TensorView};

use crate::architecture::Position;
use crate::{Architecture, GenerateError, Gguf, GgufError};

/// Weights on a device, with room for the activations of a chunk.
pub struct Decoder<D: Device> {
    device: D,
    architecture: Architecture,
    embedding: D::Matrix,
    vocabulary: usize,
    layers: Vec<Layer<D>>,
    output_norm: D::Buffer,
    /// Absent when the head is tied to the embedding.
    output: Option<Linear<D>>,
    position: PositionData<D>,
    precision: Precision,
    scratch: Scratch<D>,
}

/// [`Position`] on the device.
enum PositionData<D: Device> {
    Rotary(D::Buffer, Pairing),
    LinearBias(D::Buffer),
}

struct Layer<D: Device> {
    attention_norm: D::Buffer,
    q: Linear<D>,
    k: Linear<D>,
    v: Linear<D>,
    qk_norm: Option<(D::Buffer, D::Buffer)>,
    attention_output: Linear<D>,
    feed_forward_norm: D::Buffer,
    gate: Linear<D>,
    up: Linear<D>,
    down: Linear<D>,
}

/// Activations of up to [`Decoder::CHUNK`] tokens.
struct Scratch<D: Device> {
    residual: D::Buffer,
    normed: D::Buffer,
    q: D::Buffer,
    k: D::Buffer,
    v: D::Buffer,
    /// Queries and keys after the norm of their heads, where there is one.
    normed_heads: (D::Buffer, D::Buffer),
    attended: D::Buffer,
    projected: D::Buffer,
    gate: D::Buffer,
    up: D::Buffer,
    last: D::Buffer,
    logits: D::Buffer,
}

/// Keys and values of the tokens read so far.
pub struct KvCache<D: Device> {
    layers: Vec<D::Cache>,
    tokens: usize,
}

impl<D: Device> KvCache<D> {
    /// Tokens held.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Forgets all but the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }
}

impl<D: Device> Decoder<D> {
    /// Most tokens that [`Self::forward`] takes at once: enough to load each weight once for many tokens, few
    /// enough that a page stays responsive between chunks.
    pub const CHUNK: usize = 64;

    /// Brings a model file's weights to a device.
    pub fn load(device: D, gguf: &Gguf<'_>) -> Result<Self, GenerateError> {
        let architecture = Architecture::from_gguf(gguf)?;
        let loader = Loader { device: &device, gguf };
        let a = &architecture;
        let (hidden, ff) = (a.hidden, a.feed_forward);
        let (query, kv) = (a.query_width(), a.kv_width());
        let vocabulary = *gguf.tensor("token_embd.weight")?.shape.first().unwrap_or(&0);
        let embedding = loader.matrix("token_embd.weight", 0..vocabulary, vocabulary, hidden)?;
        let layers = (0..a.layers).map(|i| loader.layer(a, i)).collect::<Result<_, _>>()?;
        let output_norm = loader.vector("output_norm.weight", hidden)?;
        let output = match gguf.tensor("output.weight") {
            Err(GgufError::MissingTensor(_)) => None,
            _ => Some(loader.linear("output", 0..vocabulary, vocabulary, hidden, false)?),
        };
        let position = loader.position(a)?;
        let rows = |columns: usize| device.buffer(Self::CHUNK * columns);
        let scratch = Scratch {
            residual: rows(hidden),
            normed: rows(hidden),
            q: rows(query),
            k: rows(kv),
            v: rows(kv),
            normed_heads: if a.qk_norm { (rows(query), rows(kv)) } else { (rows(0), rows(0)) },
            attended: rows(query),
            projected: rows(hidden),
            gate: rows(ff),
            up: rows(ff),
            last: device.buffer(hidden),
            logits: device.buffer(vocabulary),
        };
        let precision = match gguf.tensor("blk.0.attn_output.weight")?.encoding {
            Encoding::F32 => Precision::F32,
            _ => Precision::F16,
        };
        Ok(Self {
            device,
            architecture,
            embedding,
            vocabulary,
            layers,
            output_norm,
            output,
            position,
            precision,
            scratch,
        })
    }

    /// The network's description.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Tokens the model knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// An empty cache for this model: in single precision where the weights are, else in half.
    pub fn new_cache(&self) -> KvCache<D> {
        let shape = self.architecture.attention;
        let new = |_| self.device.cache(shape.kv_heads, shape.head_dim, self.precision);
        KvCache { layers: (0..self.layers.len()).map(new).collect(), tokens: 0 }
    }

    /// Bytes that a cache takes.
    pub fn cache_bytes(&self, cache: &KvCache<D>) -> usize {
        cache.layers.iter().map(|layer| self.device.cache_bytes(layer)).sum()
    }

    /// Reads up to [`Self::CHUNK`] tokens behind those in the cache. With `logits` of the vocabulary's length, writes
    /// the scores of the token that follows the last one.
    pub fn forward(&mut self, ids: &[u32], cache: &mut KvCache<D>, logits: Option<&mut [f32]>) {
        let (device, a, s, rows) = (&self.device, &self.architecture, &mut self.scratch, ids.len());
        debug_assert!((1..=Self::CHUNK).contains(&rows));
        let (hidden, position, epsilon) = (a.hidden, cache.tokens, a.norm_epsilon);
        let shape = a.attention;
        device.embed(&self.embedding, ids, &mut s.residual);
        for (layer, cached) in self.layers.iter().zip(&mut cache.layers) {
            device.rms_norm(&s.residual, &layer.attention_norm, epsilon, rows, &mut s.normed);
            let qkv = &mut [layer.q.onto(&mut s.q), layer.k.onto(&mut s.k), layer.v.onto(&mut s.v)];
            device.project(&s.normed, rows, qkv);
            if let Some((q_norm, k_norm)) = &layer.qk_norm {
                device.rms_norm(&s.q, q_norm, epsilon, rows * shape.heads, &mut s.normed_heads.0);
                device.rms_norm(&s.k, k_norm, epsilon, rows * shape.kv_heads, &mut s.normed_heads.1);
                std::mem::swap(&mut s.q, &mut s.normed_heads.0);
                std::mem::swap(&mut s.k, &mut s.normed_heads.1);
            }
            let slopes = match &self.position {
                PositionData::Rotary(frequencies, pairing) => {
                    device.rope(&mut s.q, rows, shape.heads, shape.head_dim, position, frequencies, *pairing);
                    device.rope(&mut s.k, rows, shape.kv_heads, shape.head_dim, position, frequencies, *pairing);
                    None
                }
                PositionData::LinearBias(slopes) => Some(slopes),
            };
            device.store(cached, &s.k, &s.v, rows, position);
            device.causal_attention(shape, &s.q, cached, slopes, rows, position, &mut s.attended);
            device.project(&s.attended, rows, &mut [layer.attention_output.onto(&mut s.projected)]);
            device.add(&mut s.residual, &s.projected, rows * hidden);
            device.rms_norm(&s.residual, &layer.feed_forward_norm, epsilon, rows, &mut s.normed);
            device.project(&s.normed, rows, &mut [layer.gate.onto(&mut s.gate), layer.up.onto(&mut s.up)]);
            device.silu_mul(&mut s.gate, &s.up, rows * a.feed_forward);
            device.project(&s.gate, rows, &mut [layer.down.onto(&mut s.projected)]);
            device.add(&mut s.residual, &s.projected, rows * hidden);
        }
        cache.tokens += rows;
        if let Some(logits) = logits {
            device.copy_row(&s.residual, rows - 1, hidden, &mut s.projected);
            device.rms_norm(&s.projected, &self.output_norm, epsilon, 1, &mut s.last);
            let head = match &self.output {
                Some(output) => output.onto(&mut s.logits),
                None => Projection { weight: &self.embedding, bias: None, out: &mut s.logits },
            };
            device.project(&s.last, 1, &mut [head]);
            device.read(&s.logits, 0, logits);
        }
    }
}

/// Fetches tensors by name and checks their shapes.
struct Loader<'a, D: Device> {
    device: &'a D,
    gguf: &'a Gguf<'a>,
}

impl<D: Device> Loader<'_, D> {
    fn layer(&self, a: &Architecture, i: usize) -> Result<Layer<D>, GenerateError> {
        let name = |part: &str| format!("blk.{i}.{part}");
        let (hidden, ff, query, kv) = (a.hidden, a.feed_forward, a.query_width(), a.kv_width());
        let (q, k, v, gate, up);
        if a.fused {
            let part = |rows: Range<usize>| self.linear(&name("attn_qkv"), rows, query + 2 * kv, hidden, a.qkv_bias);
            (q, k, v) = (part(0..query)?, part(query..query + kv)?, part(query + kv..query + 2 * kv)?);
            let part = |rows: Range<usize>| self.linear(&name("ffn_up"), rows, 2 * ff, hidden, false);
            (gate, up) = (part(0..ff)?, part(ff..2 * ff)?);
        } else {
            let whole = |part: &str, rows: usize, bias| self.linear(&name(part), 0..rows, rows, hidden, bias);
            (q, k) = (whole("attn_q", query, a.qkv_bias)?, whole("attn_k", kv, a.qkv_bias)?);
            v = whole("attn_v", kv, a.qkv_bias)?;
            (gate, up) = (whole("ffn_gate", ff, false)?, whole("ffn_up", ff, false)?);
        }
        let head_norm = |part: &str| self.vector(&name(part), a.attention.head_dim);
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"), hidden)?,
            q,
            k,
            v,
            qk_norm: match a.qk_norm {
                true => Some((head_norm("attn_q_norm.weight")?, head_norm("attn_k_norm.weight")?)),
                false => None,
            },
            attention_output: self.linear(&name("attn_output"), 0..hidden, hidden, query, false)?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), hidden)?,
            gate,
            up,
            down: self.linear(&name("ffn_down"), 0..hidden, hidden, ff, false)?,
        })
    }

    /// Frequencies of the rotary pairs, divided by the file's own factors where it has any (Llama 3), or the slopes of
    /// the linear biases.
    fn position(&self, a: &Architecture) -> Result<PositionData<D>, GenerateError> {
        let (dimensions, theta, divisor, pairing) = match a.position {
            Position::Rotary { dimensions, theta, divisor, pairing } => (dimensions, theta, divisor, pairing),
            Position::LinearBias => return Ok(PositionData::LinearBias(self.numbers(&slopes(a.attention.heads))?)),
        };
        let pairs = dimensions / 2;
        let factors = match self.gguf.tensor("rope_freqs.weight") {
            Err(GgufError::MissingTensor(_)) => vec![1.0; pairs],
            _ => {
                let mut factors = vec![0.0; pairs];
                self.device.read(&self.vector("rope_freqs.weight", pairs)?, 0, &mut factors);
                factors
            }
        };
        let frequency = |i: usize| theta.powf(-2.0 * i as f32 / dimensions as f32) / divisor / factors[i];
        let frequencies: Vec<f32> = (0..pairs).map(frequency).collect();
        Ok(PositionData::Rotary(self.numbers(&frequencies)?, pairing))
    }

    /// Brings numbers that don't stand in the file to the device.
    fn numbers(&self, numbers: &[f32]) -> Result<D::Buffer, GenerateError> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = [numbers.len()];
        Ok(self.device.vector(&TensorView {
            name: "numbers",
            shape: &shape,
            encoding: Encoding::F32,
            bytes: &bytes,
        })?)
    }

    /// Rows of a weight `[all, columns]`, with the same rows of its bias.
    fn linear(
        &self,
        name: &str,
        rows: Range<usize>,
        all: usize,
        columns: usize,
        has_bias: bool,
    ) -> Result<Linear<D>, GenerateError> {
        let bias = || self.rows(&format!("{name}.bias"), &[all], rows.clone(), |tensor| self.device.vector(tensor));
        Ok(Linear {
            bias: if has_bias { Some(bias()?) } else { None },
            weight: self.matrix(&format!("{name}.weight"), rows, all, columns)?,
        })
    }

    fn matrix(&self, name: &str, rows: Range<usize>, all: usize, columns: usize) -> Result<D::Matrix, GenerateError> {
        self.rows(name, &[all, columns], rows, |tensor| self.device.matrix(tensor))
    }

    fn vector(&self, name: &str, len: usize) -> Result<D::Buffer, GenerateError> {
        self.rows(name, &[len], 0..len, |tensor| self.device.vector(tensor))
    }

    /// Loads some rows of a tensor after checking its whole shape.
    fn rows<T>(
        &self,
        name: &str,
        expected: &[usize],
        rows: Range<usize>,
        load: impl Fn(&TensorView<'_>) -> Result<T, ComputeError>,
    ) -> Result<T, GenerateError> {
        let tensor = self.gguf.tensor(name)?;
        if tensor.shape != expected {
            let (expected, found) = (expected.to_vec(), tensor.shape.to_vec());
            return Err(GenerateError::WrongShape { name: name.to_owned(), expected, found });
        }
        tensor.validate()?;
        let row_bytes = tensor.bytes.len() / expected[0].max(1);
        let mut shape = expected.to_vec();
        shape[0] = rows.len();
        let bytes = &tensor.bytes[rows.start * row_bytes..rows.end * row_bytes];
        Ok(load(&TensorView { shape: &shape, bytes, ..tensor })?)
    }
}

/// Slopes of the linear biases: 2⁻⁸ᐟⁿ, its square and so on; for a number of heads that is no power of two, those of
/// the next lower one, then every other of the next higher one (Press et al. 2022, their code).
fn slopes(heads: usize) -> Vec<f32> {
    let power = 1usize << heads.ilog2();
    let slope = |n: usize, i: usize| 2f32.powf(-8.0 * (i + 1) as f32 / n as f32);
    let (first, rest) = (0..power.min(heads), 0..heads - power);
    first.map(|i| slope(power, i)).chain(rest.map(|i| slope(2 * power, 2 * i))).collect()
}
