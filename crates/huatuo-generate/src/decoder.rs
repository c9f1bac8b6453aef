//! The one decoder: pre-norm blocks with grouped-query attention and a gated feed-forward layer.

use huatuo_compute::{Device, Encoding, Linear, Pairing, Projection, TensorView};

use crate::architecture::{Position, ROPE_FACTORS};
use crate::weights::Weights;
use crate::{Architecture, DecoderLoader, GenerateError, Gguf};

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
        let mut loader = DecoderLoader::new(device, gguf.bytes().len() as u64);
        loader.push(gguf.bytes())?;
        Ok(loader.finish()?.0)
    }

    /// Puts the weights of a file in their places.
    pub(crate) fn assemble(
        device: D,
        architecture: Architecture,
        mut weights: Weights<D>,
    ) -> Result<Self, GenerateError> {
        let a = &architecture;
        let layers = (0..a.layers).map(|i| Layer::assemble(a, i, &mut weights)).collect::<Result<_, _>>()?;
        let output = weights.linear("output", 0).ok();
        let position = position(&device, a, weights.vector(ROPE_FACTORS).ok())?;
        let rows = |columns: usize| device.buffer(Self::CHUNK * columns);
        let embedding = weights.matrix("token_embd.weight", 0)?;
        let vocabulary = D::rows(&embedding);
        let scratch = Scratch {
            residual: rows(a.hidden),
            normed: rows(a.hidden),
            q: rows(a.query_width()),
            k: rows(a.kv_width()),
            v: rows(a.kv_width()),
            normed_heads: if a.qk_norm { (rows(a.query_width()), rows(a.kv_width())) } else { (rows(0), rows(0)) },
            attended: rows(a.query_width()),
            projected: rows(a.hidden),
            gate: rows(a.feed_forward),
            up: rows(a.feed_forward),
            last: device.buffer(a.hidden),
            logits: device.buffer(vocabulary),
        };
        let output_norm = weights.vector("output_norm.weight")?;
        Ok(Self { device, architecture, embedding, vocabulary, layers, output_norm, output, position, scratch })
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
        let precision = self.architecture.cache_precision;
        let new = |_| self.device.cache(shape.kv_heads, shape.head_dim, precision);
        KvCache { layers: (0..self.layers.len()).map(new).collect(), tokens: 0 }
    }

    /// Bytes that a cache takes.
    pub fn cache_bytes(&self, cache: &KvCache<D>) -> usize {
        cache.layers.iter().map(|layer| self.device.cache_bytes(layer)).sum()
    }

    /// Numbers of the keys, and as many of the values, that a layer keeps of a token.
    pub(crate) fn kv_width(&self) -> usize {
        self.architecture.kv_width()
    }

    /// Keys and values `[tokens, kv_width]` of the first tokens in a cache, of one layer after the other.
    pub(crate) fn recall(&self, cache: &KvCache<D>, tokens: usize) -> Vec<[Vec<f32>; 2]> {
        let len = tokens * self.kv_width();
        let of_layer = |layer: &D::Cache| {
            let (mut keys, mut values) = (self.device.buffer(len), self.device.buffer(len));
            self.device.recall(layer, tokens, &mut keys, &mut values);
            [keys, values].map(|buffer| {
                let mut numbers = vec![0.0; len];
                self.device.read(&buffer, 0, &mut numbers);
                numbers
            })
        };
        cache.layers.iter().map(of_layer).collect()
    }

    /// A cache with the keys and values that [`Self::recall`] gave.
    pub(crate) fn restore(&self, layers: &[[Vec<f32>; 2]], tokens: usize) -> Result<KvCache<D>, GenerateError> {
        let mut cache = self.new_cache();
        for (layer, numbers) in cache.layers.iter_mut().zip(layers) {
            let [keys, values] = numbers;
            let (keys, values) = (vector(&self.device, "keys", keys)?, vector(&self.device, "values", values)?);
            self.device.store(layer, &keys, &values, tokens, 0);
        }
        cache.tokens = tokens;
        Ok(cache)
    }

    /// Reads any number of tokens behind those in the cache, and writes the scores of the token that follows the last one.
    pub fn read(&mut self, ids: &[u32], cache: &mut KvCache<D>, logits: &mut [f32]) {
        let chunks = ids.chunks(Self::CHUNK);
        let last = chunks.len();
        for (i, chunk) in chunks.enumerate() {
            self.forward(chunk, cache, (i + 1 == last).then_some(&mut *logits));
        }
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

impl<D: Device> Layer<D> {
    fn assemble(a: &Architecture, i: usize, weights: &mut Weights<D>) -> Result<Self, GenerateError> {
        let name = |part: &str| format!("blk.{i}.{part}");
        let [q, k, v, gate, up] = match a.fused {
            true => [("attn_qkv", 0), ("attn_qkv", 1), ("attn_qkv", 2), ("ffn_up", 0), ("ffn_up", 1)],
            false => [("attn_q", 0), ("attn_k", 0), ("attn_v", 0), ("ffn_gate", 0), ("ffn_up", 0)],
        };
        let mut linear = |(part, index): (&str, usize)| weights.linear(&name(part), index);
        Ok(Self {
            q: linear(q)?,
            k: linear(k)?,
            v: linear(v)?,
            gate: linear(gate)?,
            up: linear(up)?,
            attention_output: linear(("attn_output", 0))?,
            down: linear(("ffn_down", 0))?,
            attention_norm: weights.vector(&name("attn_norm.weight"))?,
            feed_forward_norm: weights.vector(&name("ffn_norm.weight"))?,
            qk_norm: match a.qk_norm {
                true => {
                    Some((weights.vector(&name("attn_q_norm.weight"))?, weights.vector(&name("attn_k_norm.weight"))?))
                }
                false => None,
            },
        })
    }
}

/// Numbers on a device.
fn vector<D: Device>(device: &D, name: &str, numbers: &[f32]) -> Result<D::Buffer, GenerateError> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok(device.vector(&TensorView { name, shape: &[numbers.len()], encoding: Encoding::F32, bytes: &bytes })?)
}

/// Frequencies of the rotary pairs, divided by the file's own factors where it has any (Llama 3), or the slopes of the
/// linear biases.
fn position<D: Device>(
    device: &D,
    a: &Architecture,
    factors: Option<D::Buffer>,
) -> Result<PositionData<D>, GenerateError> {
    let numbers = |numbers: &[f32]| vector(device, "positions", numbers);
    let (dimensions, theta, divisor, pairing) = match a.position {
        Position::Rotary { dimensions, theta, divisor, pairing } => (dimensions, theta, divisor, pairing),
        Position::LinearBias => return Ok(PositionData::LinearBias(numbers(&slopes(a.attention.heads))?)),
    };
    let mut divisors = vec![1.0; dimensions / 2];
    if let Some(factors) = factors {
        device.read(&factors, 0, &mut divisors);
    }
    let frequency = |i: usize| theta.powf(-2.0 * i as f32 / dimensions as f32) / divisor / divisors[i];
    let frequencies: Vec<f32> = (0..dimensions / 2).map(frequency).collect();
    Ok(PositionData::Rotary(numbers(&frequencies)?, pairing))
}

/// Slopes of the linear biases: 2⁻⁸ᐟⁿ, its square and so on; for a number of heads that is no power of two, those of
/// the next lower one, then every other of the next higher one (Press et al. 2022, their code).
fn slopes(heads: usize) -> Vec<f32> {
    let power = 1usize << heads.ilog2();
    let slope = |n: usize, i: usize| 2f32.powf(-8.0 * (i + 1) as f32 / n as f32);
    let (first, rest) = (0..power.min(heads), 0..heads - power);
    first.map(|i| slope(power, i)).chain(rest.map(|i| slope(2 * power, 2 * i))).collect()
}
