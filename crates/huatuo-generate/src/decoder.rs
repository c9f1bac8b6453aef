//! The one decoder: pre-norm blocks with grouped-query attention and a gated feed-forward layer.

use huatuo_compute::{ComputeError, Device};

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
    output: Option<D::Matrix>,
    scratch: Scratch<D>,
}

struct Layer<D: Device> {
    attention_norm: D::Buffer,
    q: Projection<D>,
    k: Projection<D>,
    v: Projection<D>,
    attention_output: D::Matrix,
    feed_forward_norm: D::Buffer,
    gate: D::Matrix,
    up: D::Matrix,
    down: D::Matrix,
}

struct Projection<D: Device> {
    weight: D::Matrix,
    bias: Option<D::Buffer>,
}

/// Activations of up to [`Decoder::CHUNK`] tokens.
struct Scratch<D: Device> {
    residual: D::Buffer,
    normed: D::Buffer,
    q: D::Buffer,
    k: D::Buffer,
    v: D::Buffer,
    attended: D::Buffer,
    projected: D::Buffer,
    gate: D::Buffer,
    up: D::Buffer,
    last: D::Buffer,
    logits: D::Buffer,
}

/// Keys and values of the tokens read so far, one pair of buffers `[tokens, kv_width]` a layer.
pub struct KvCache<D: Device> {
    layers: Vec<(D::Buffer, D::Buffer)>,
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
        let (hidden, ff, kv) = (architecture.hidden, architecture.feed_forward, architecture.kv_width());
        let vocabulary = *gguf.tensor("token_embd.weight")?.shape.first().unwrap_or(&0);
        let embedding = loader.matrix("token_embd.weight", vocabulary, hidden)?;
        let mut layers = Vec::new();
        for i in 0..architecture.layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            let projection = |part: &str, rows: usize| {
                let bias = match architecture.qkv_bias {
                    true => Some(loader.vector(&name(&format!("{part}.bias")), rows)?),
                    false => None,
                };
                let weight = loader.matrix(&name(&format!("{part}.weight")), rows, hidden)?;
                Ok::<_, GenerateError>(Projection { weight, bias })
            };
            layers.push(Layer {
                attention_norm: loader.vector(&name("attn_norm.weight"), hidden)?,
                q: projection("attn_q", hidden)?,
                k: projection("attn_k", kv)?,
                v: projection("attn_v", kv)?,
                attention_output: loader.matrix(&name("attn_output.weight"), hidden, hidden)?,
                feed_forward_norm: loader.vector(&name("ffn_norm.weight"), hidden)?,
                gate: loader.matrix(&name("ffn_gate.weight"), ff, hidden)?,
                up: loader.matrix(&name("ffn_up.weight"), ff, hidden)?,
                down: loader.matrix(&name("ffn_down.weight"), hidden, ff)?,
            });
        }
        let output_norm = loader.vector("output_norm.weight", hidden)?;
        let output = match gguf.tensor("output.weight") {
            Err(GgufError::MissingTensor(_)) => None,
            _ => Some(loader.matrix("output.weight", vocabulary, hidden)?),
        };
        let rows = |columns: usize| device.buffer(Self::CHUNK * columns);
        let scratch = Scratch {
            residual: rows(hidden),
            normed: rows(hidden),
            q: rows(hidden),
            k: rows(kv),
            v: rows(kv),
            attended: rows(hidden),
            projected: rows(hidden),
            gate: rows(ff),
            up: rows(ff),
            last: device.buffer(hidden),
            logits: device.buffer(vocabulary),
        };
        Ok(Self { device, architecture, embedding, vocabulary, layers, output_norm, output, scratch })
    }

    /// The network's description.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Tokens the model knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// An empty cache for this model.
    pub fn new_cache(&self) -> KvCache<D> {
        let layers = self.layers.iter().map(|_| (self.device.buffer(0), self.device.buffer(0))).collect();
        KvCache { layers, tokens: 0 }
    }

    /// Reads up to [`Self::CHUNK`] tokens behind those in the cache. With `logits` of the vocabulary's length, writes
    /// the scores of the token that follows the last one.
    pub fn forward(&mut self, ids: &[u32], cache: &mut KvCache<D>, logits: Option<&mut [f32]>) {
        let (device, a, s, rows) = (&self.device, &self.architecture, &mut self.scratch, ids.len());
        debug_assert!((1..=Self::CHUNK).contains(&rows));
        let (hidden, kv, position) = (a.hidden, a.kv_width(), cache.tokens);
        let shape = a.attention;
        device.embed(&self.embedding, ids, &mut s.residual);
        for (layer, (keys, values)) in self.layers.iter().zip(&mut cache.layers) {
            device.rms_norm(&s.residual, &layer.attention_norm, a.norm_epsilon, rows, &mut s.normed);
            for (projection, out) in [(&layer.q, &mut s.q), (&layer.k, &mut s.k), (&layer.v, &mut s.v)] {
                device.linear(&projection.weight, projection.bias.as_ref(), &s.normed, rows, out);
            }
            device.rope(&mut s.q, rows, shape.heads, shape.head_dim, position, a.rope_theta);
            device.rope(&mut s.k, rows, shape.kv_heads, shape.head_dim, position, a.rope_theta);
            device.store(keys, &s.k, rows, kv, position);
            device.store(values, &s.v, rows, kv, position);
            device.causal_attention(shape, &s.q, keys, values, rows, position, &mut s.attended);
            device.linear(&layer.attention_output, None, &s.attended, rows, &mut s.projected);
            device.add(&mut s.residual, &s.projected, rows * hidden);
            device.rms_norm(&s.residual, &layer.feed_forward_norm, a.norm_epsilon, rows, &mut s.normed);
            device.linear(&layer.gate, None, &s.normed, rows, &mut s.gate);
            device.linear(&layer.up, None, &s.normed, rows, &mut s.up);
            device.silu_mul(&mut s.gate, &s.up, rows * a.feed_forward);
            device.linear(&layer.down, None, &s.gate, rows, &mut s.projected);
            device.add(&mut s.residual, &s.projected, rows * hidden);
        }
        cache.tokens += rows;
        if let Some(logits) = logits {
            device.rms_norm(&s.residual, &self.output_norm, a.norm_epsilon, rows, &mut s.normed);
            device.copy_row(&s.normed, rows - 1, hidden, &mut s.last);
            device.linear(self.output.as_ref().unwrap_or(&self.embedding), None, &s.last, 1, &mut s.logits);
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
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<D::Matrix, GenerateError> {
        self.checked(name, &[rows, columns], |tensor| self.device.matrix(tensor))
    }

    fn vector(&self, name: &str, len: usize) -> Result<D::Buffer, GenerateError> {
        self.checked(name, &[len], |tensor| self.device.vector(tensor))
    }

    fn checked<T>(
        &self,
        name: &str,
        expected: &[usize],
        load: impl Fn(&huatuo_compute::TensorView<'_>) -> Result<T, ComputeError>,
    ) -> Result<T, GenerateError> {
        let tensor = self.gguf.tensor(name)?;
        if tensor.shape != expected {
            let (expected, found) = (expected.to_vec(), tensor.shape.to_vec());
            return Err(GenerateError::WrongShape { name: name.to_owned(), expected, found });
        }
        Ok(load(&tensor)?)
    }
}
