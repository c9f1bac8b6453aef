//! The one decoder: pre-norm blocks with grouped-query attention and a gated feed-forward layer.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use huatuo_compute::{
    ChoiceRule, Device, Encoding, Heads, Linear, Norm, Pairing, Projection, Rotary, Span, TensorView,
};
use huatuo_fetch::clock::now_ms;

use crate::architecture::Position;
use crate::weights::Weights;
use crate::{Architecture, DecoderLoader, GenerateError, Gguf, Pace};

/// Half of the 50 ms within which a stop has to take effect.
const PART_MS: f64 = 25.0;

/// Weights on a device, with room for the activations of a chunk.
pub struct Decoder<D: Device> {
    device: D,
    architecture: Architecture,
    embedding: D::Matrix,
    vocabulary: usize,
    layers: Vec<Layer<D>>,
    output_norm: Norm<D>,
    /// Absent when the head is tied to the embedding.
    output: Option<Linear<D>>,
    position: PositionData<D>,
    scratch: Scratch<D>,
    /// Layers of a part of [`Self::forward_paced`].
    layers_at_once: usize,
}

/// [`Position`] on the device.
enum PositionData<D: Device> {
    Rotary(Vec<f32>, Pairing),
    LinearBias(D::Buffer),
}

struct Layer<D: Device> {
    attention_norm: Norm<D>,
    /// Queries, keys and values.
    qkv: [Linear<D>; 3],
    qk_norm: Option<[Norm<D>; 2]>,
    attention_output: Linear<D>,
    feed_forward_norm: Norm<D>,
    /// Gate and up.
    gate_up: [Linear<D>; 2],
    down: Linear<D>,
}

/// A text whose rows go through the blocks.
struct Text<'a, D: Device> {
    rows: usize,
    cache: &'a mut KvCache<D>,
}

/// Activations of up to [`Decoder::chunk`] tokens, and scores of up to `texts`.
struct Scratch<D: Device> {
    tokens: usize,
    texts: usize,
    residual: D::Buffer,
    normed: D::Buffer,
    heads: Heads<D>,
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

/// Tokens of one text that are read together with those of others.
pub struct Reading<'a, D: Device> {
    /// The next ones, at least one.
    pub ids: &'a [u32],
    /// Of the text.
    pub cache: &'a mut KvCache<D>,
    /// Whether the scores of the token that follows the last one are wanted.
    pub scored: bool,
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
        let layers =
            (0..a.layers).map(|i| Layer::assemble(&device, a, i, &mut weights)).collect::<Result<Vec<_>, _>>()?;
        let output = weights.linear("output", 0).ok();
        let position = position(&device, a, weights.rope_factors())?;
        let embedding = weights.matrix("token_embd.weight", 0)?;
        let vocabulary = D::rows(&embedding);
        let output_norm = Norm { weight: weights.vector("output_norm.weight")?, epsilon: a.norm_epsilon };
        let tokens = tokens_at_once(&device, &layers);
        let scratch = Scratch::new(&device, &architecture, vocabulary, tokens);
        Ok(Self {
            device,
            architecture,
            embedding,
            vocabulary,
            layers,
            output_norm,
            output,
            position,
            scratch,
            layers_at_once: 1,
        })
    }

    /// What it computes on.
    pub fn device(&self) -> &D {
        &self.device
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

    /// Bytes that reading so many tokens behind those in a cache would add to [`Self::cache_memory`].
    pub fn cache_growth(&self, cache: &KvCache<D>, tokens: usize) -> usize {
        let layers = cache.layers.iter();
        layers.map(|layer| self.device.cache_growth(layer, tokens, cache.tokens)).sum()
    }

    /// Bytes of all caches on the device, what they share counted once.
    pub fn cache_memory(&self) -> usize {
        self.device.cache_memory()
    }

    /// A cache that begins with the first `tokens` of another, for a text that begins alike.
    pub fn fork(&self, cache: &KvCache<D>, tokens: usize) -> KvCache<D> {
        let tokens = tokens.min(cache.tokens);
        KvCache { layers: cache.layers.iter().map(|layer| self.device.fork(layer, tokens)).collect(), tokens }
    }

    /// Numbers of the keys, and as many of the values, that a layer keeps of a token.
    pub(crate) fn kv_width(&self) -> usize {
        self.architecture.kv_width()
    }

    /// Keys and values `[tokens, kv_width]` of the first tokens in a cache, of one layer after the other.
    pub(crate) async fn recall(&self, cache: &KvCache<D>, tokens: usize) -> Result<Vec<[Vec<f32>; 2]>, GenerateError> {
        let len = tokens * self.kv_width();
        let (mut keys, mut values) = (self.device.buffer(len), self.device.buffer(len));
        let mut layers = Vec::with_capacity(cache.layers.len());
        for layer in &cache.layers {
            self.device.recall(layer, tokens, &mut keys, &mut values);
            let mut numbers = [vec![0.0; len], vec![0.0; len]];
            self.device.read(&keys, 0, &mut numbers[0]).await?;
            self.device.read(&values, 0, &mut numbers[1]).await?;
            layers.push(numbers);
        }
        Ok(layers)
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
    pub async fn read(&mut self, ids: &[u32], cache: &mut KvCache<D>, logits: &mut [f32]) -> Result<(), GenerateError> {
        let chunks = ids.chunks(self.chunk());
        let last = chunks.len();
        for (i, chunk) in chunks.enumerate() {
            self.forward(chunk, cache, i + 1 == last);
        }
        self.scores(logits).await
    }

    /// Reads up to [`Self::chunk`] tokens behind those in the cache; where it is `scored`, the scores of the token that
    /// follows the last one are made, too.
    pub fn forward(&mut self, ids: &[u32], cache: &mut KvCache<D>, scored: bool) {
        debug_assert!((1..=self.chunk()).contains(&ids.len()));
        self.device.embed(&self.embedding, ids, &mut self.scratch.residual);
        self.blocks(ids.len(), cache, scored);
        if !scored {
            self.device.submit(); // scores are submitted with what is asked about them
        }
    }

    /// Makes room for the scores of so many texts at once.
    pub fn set_texts(&mut self, texts: usize) {
        if texts > self.scratch.texts {
            let hidden = self.architecture.hidden;
            self.scratch.texts = texts;
            self.scratch.last = self.device.buffer(texts * hidden);
            self.scratch.logits = self.device.buffer(texts * self.vocabulary);
        }
    }

    /// Has caches that are made from now on, of so many bytes in all, share memory, where the device gains by it for
    /// [`Self::forward_together`].
    pub fn share_caches(&self, bytes: usize) {
        self.device.share_caches(bytes);
    }

    /// Reads tokens of several texts, up to [`Self::chunk`] in all, so that each weight is loaded once for all of them. Scores are made of
    /// those texts that want them, in their order; see [`Self::set_texts`].
    pub fn forward_together(&mut self, readings: &mut [Reading<'_, D>]) {
        let rows: usize = readings.iter().map(|reading| reading.ids.len()).sum();
        debug_assert!((1..=self.chunk()).contains(&rows));
        let ids: Vec<u32> = readings.iter().flat_map(|reading| reading.ids).copied().collect();
        self.device.embed(&self.embedding, &ids, &mut self.scratch.residual);
        let mut texts: Vec<Text<'_, D>> =
            readings.iter_mut().map(|Reading { ids, cache, .. }| Text { rows: ids.len(), cache }).collect();
        self.layers(0..self.layers.len(), &mut texts);
        let (mut end, mut scored) = (0, Vec::new());
        for Reading { ids, cache, scored: is_scored } in readings {
            cache.tokens += ids.len();
            end += ids.len();
            if *is_scored {
                scored.push(end - 1);
            }
        }
        match scored.is_empty() {
            true => self.device.submit(),
            false => self.score(&scored),
        }
    }

    /// Reads the token that was chosen last, which need not be known here yet, and makes scores.
    pub fn forward_chosen(&mut self, chooser: &D::Chooser, cache: &mut KvCache<D>) {
        self.device.embed_chosen(&self.embedding, chooser, &mut self.scratch.residual);
        self.blocks(1, cache, true);
    }

    /// Begins the choices of an answer.
    pub fn chooser(&self, rule: ChoiceRule) -> D::Chooser {
        self.device.chooser(rule)
    }

    /// Chooses a token by the scores that were made last; see [`Device::choose`].
    pub fn choose(&mut self, chooser: &mut D::Chooser, allowed: Option<&[(u32, f32)]>, random: f32) -> D::Chosen {
        self.device.choose(&mut self.scratch.logits, chooser, allowed, random)
    }

    /// The chosen token.
    pub async fn chosen(&self, chosen: D::Chosen) -> Result<u32, GenerateError> {
        let no_number = || GenerateError::Sampling("no score is a number: the model's weights are damaged".to_owned());
        self.device.chosen(chosen).await?.ok_or_else(no_number)
    }

    /// Writes the best tokens behind what was read and scored, as many ahead of those that are looked at as the device gains
    /// by.
    pub async fn write(&mut self, cache: &mut KvCache<D>, tokens: usize) -> Result<Vec<u32>, GenerateError> {
        let mut chooser = self.chooser(ChoiceRule {
            vocabulary: self.vocabulary,
            automaton: None,
            state: 0,
            draw: None,
            penalty: 1.0,
            window: 0,
            written: Vec::new(),
        });
        let (mut choices, mut written) = (VecDeque::new(), Vec::new());
        for _ in 0..tokens {
            choices.push_back(self.choose(&mut chooser, None, 0.0));
            self.forward_chosen(&chooser, cache);
            if choices.len() > D::AHEAD
                && let Some(chosen) = choices.pop_front()
            {
                written.push(self.chosen(chosen).await?);
            }
        }
        for chosen in choices {
            written.push(self.chosen(chosen).await?);
        }
        Ok(written)
    }

    /// As [`Self::forward`], in parts that take no longer than a stop may wait; between them `pace` is asked whether to go on.
    /// After a stop the tokens count as not read.
    pub(crate) async fn forward_paced<P: Pace>(
        &mut self,
        ids: &[u32],
        cache: &mut KvCache<D>,
        scored: bool,
        pace: &mut P,
    ) -> Result<ControlFlow<()>, GenerateError> {
        debug_assert!((1..=self.chunk()).contains(&ids.len()));
        self.device.embed(&self.embedding, ids, &mut self.scratch.residual);
        let mut first = 0;
        while first < self.layers.len() {
            let started = now_ms();
            let end = (first + self.layers_at_once).min(self.layers.len());
            self.layers(first..end, &mut [Text { rows: ids.len(), cache }]);
            if end == self.layers.len() {
                self.finish(ids.len(), cache, scored);
            }
            self.device.settle().await?;
            let took = now_ms() - started;
            if took < PART_MS / 2.0 && end - first == self.layers_at_once {
                self.layers_at_once = (2 * self.layers_at_once).min(self.layers.len());
            } else if took > PART_MS {
                self.layers_at_once = (self.layers_at_once / 2).max(1);
            }
            first = end;
            if pace.pause().await.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The blocks on the embeddings of `rows` tokens.
    fn blocks(&mut self, rows: usize, cache: &mut KvCache<D>, scored: bool) {
        self.layers(0..self.layers.len(), &mut [Text { rows, cache }]);
        self.finish(rows, cache, scored);
    }

    /// Some of the blocks, on the rows of texts that stand one behind the other.
    fn layers(&mut self, layers: Range<usize>, texts: &mut [Text<'_, D>]) {
        let (device, a, s) = (&self.device, &self.architecture, &mut self.scratch);
        let rows = texts.iter().map(|text| text.rows).sum();
        let shape = a.attention;
        let (rotary, slopes) = match &self.position {
            PositionData::Rotary(frequencies, pairing) => (Some(Rotary { frequencies, pairing: *pairing }), None),
            PositionData::LinearBias(slopes) => (None, Some(slopes)),
        };
        for (number, layer) in layers.clone().zip(&self.layers[layers]) {
            let mut spans: Vec<Span<'_, D>> = Vec::with_capacity(texts.len());
            for Text { rows, cache } in texts.iter_mut() {
                spans.push(Span { rows: *rows, position: cache.tokens, cache: &mut cache.layers[number] });
            }
            let [q, k, v] = &layer.qkv;
            let qkv = &mut [q.onto(&mut s.heads.q), k.onto(&mut s.heads.k), v.onto(&mut s.heads.v)];
            device.norm_project(&s.residual, &layer.attention_norm, rows, &mut s.normed, qkv);
            device.attend(shape, &mut s.heads, layer.qk_norm.as_ref(), rotary, slopes, &mut spans, &mut s.attended);
            device.project_add(&s.attended, rows, &layer.attention_output, &mut s.projected, &mut s.residual);
            let [gate, up] = &layer.gate_up;
            let gate_up = [gate.onto(&mut s.gate), up.onto(&mut s.up)];
            device.norm_gate(&s.residual, &layer.feed_forward_norm, rows, &mut s.normed, gate_up);
            device.project_add(&s.gate, rows, &layer.down, &mut s.projected, &mut s.residual);
        }
    }

    /// What follows the blocks: the tokens are in the cache, and the last one's scores are made where they are wanted.
    fn finish(&mut self, rows: usize, cache: &mut KvCache<D>, scored: bool) {
        cache.tokens += rows;
        if scored {
            self.score(&[rows - 1]);
        }
    }

    /// Makes the scores of the tokens that follow some rows.
    fn score(&mut self, rows: &[usize]) {
        let (device, s, hidden) = (&self.device, &mut self.scratch, self.architecture.hidden);
        debug_assert!(rows.len() <= s.texts);
        // Where the rows are all there is, they stand where they should.
        let last = match rows.iter().copied().eq(0..rows.len()) {
            true => &s.residual,
            false => {
                for (at, row) in rows.iter().enumerate() {
                    device.copy_rows(&s.residual, *row, 1, hidden, &mut s.projected, at);
                }
                &s.projected
            }
        };
        let head = match &self.output {
            Some(output) => output.onto(&mut s.logits),
            None => Projection { weight: &self.embedding, bias: None, out: &mut s.logits },
        };
        device.norm_project(last, &self.output_norm, rows.len(), &mut s.last, &mut [head]);
    }

    /// The matrices of each layer, then that of the scores.
    pub fn matrices(&self) -> Vec<Vec<&D::Matrix>> {
        let scores = self.output.as_ref().map_or(&self.embedding, |output| &output.weight);
        self.layers.iter().map(Layer::matrices).chain([vec![scores]]).collect()
    }

    /// Lets the device find out how it computes this model fastest.
    pub async fn tune(&mut self) -> Result<(), GenerateError> {
        self.device.tune(&self.matrices()).await?;
        let tokens = tokens_at_once(&self.device, &self.layers);
        if tokens != self.scratch.tokens {
            let texts = self.scratch.texts;
            self.scratch = Scratch::new(&self.device, &self.architecture, self.vocabulary, tokens);
            self.set_texts(texts);
        }
        Ok(())
    }

    /// Most tokens that [`Self::forward`] takes at once.
    pub fn chunk(&self) -> usize {
        self.scratch.tokens
    }

    /// Waits until what was read is computed.
    pub async fn settle(&self) -> Result<(), GenerateError> {
        Ok(self.device.settle().await?)
    }

    /// Writes the scores that [`Self::forward`] made last, as many as the vocabulary has tokens, or those `[texts, vocabulary]` of
    /// [`Self::forward_together`].
    pub async fn scores(&self, logits: &mut [f32]) -> Result<(), GenerateError> {
        Ok(self.device.read(&self.scratch.logits, 0, logits).await?)
    }
}

impl<D: Device> Scratch<D> {
    fn new(device: &D, a: &Architecture, vocabulary: usize, tokens: usize) -> Self {
        let rows = |columns: usize| device.buffer(tokens * columns);
        let [q, k, v] = device.buffers([a.query_width(), a.kv_width(), a.kv_width()].map(|width| tokens * width));
        let [gate, up] = device.buffers([tokens * a.feed_forward; 2]);
        let normed = |width| if a.qk_norm { rows(width) } else { rows(0) };
        Self {
            tokens,
            texts: 1,
            residual: rows(a.hidden),
            normed: rows(a.hidden),
            heads: Heads { q, k, v, normed_q: normed(a.query_width()), normed_k: normed(a.kv_width()) },
            attended: rows(a.query_width()),
            projected: rows(a.hidden),
            gate,
            up,
            last: device.buffer(a.hidden),
            logits: device.buffer(vocabulary),
        }
    }
}

fn tokens_at_once<D: Device>(device: &D, layers: &[Layer<D>]) -> usize {
    layers.first().map_or(1, |layer| device.tokens_at_once(&layer.matrices()))
}

impl<D: Device> Layer<D> {
    fn matrices(&self) -> Vec<&D::Matrix> {
        let Self { qkv, attention_output, gate_up, down, .. } = self;
        let linears = qkv.iter().chain([attention_output]).chain(gate_up).chain([down]);
        linears.map(|linear| &linear.weight).collect()
    }

    fn assemble(device: &D, a: &Architecture, i: usize, weights: &mut Weights<D>) -> Result<Self, GenerateError> {
        let name = |part: &str| format!("blk.{i}.{part}");
        let [q, k, v, gate, up] = match a.fused {
            true => [("attn_qkv", 0), ("attn_qkv", 1), ("attn_qkv", 2), ("ffn_up", 0), ("ffn_up", 1)],
            false => [("attn_q", 0), ("attn_k", 0), ("attn_v", 0), ("ffn_gate", 0), ("ffn_up", 0)],
        };
        let mut linear = |(part, index): (&str, usize)| weights.linear(&name(part), index);
        let qkv = device.join([linear(q)?, linear(k)?, linear(v)?]);
        let gate_up = device.join([linear(gate)?, linear(up)?]);
        let (attention_output, down) = (linear(("attn_output", 0))?, linear(("ffn_down", 0))?);
        let mut norm =
            |part: &str| Ok::<_, GenerateError>(Norm { weight: weights.vector(&name(part))?, epsilon: a.norm_epsilon });
        Ok(Self {
            qkv,
            gate_up,
            attention_output,
            down,
            attention_norm: norm("attn_norm.weight")?,
            feed_forward_norm: norm("ffn_norm.weight")?,
            qk_norm: match a.qk_norm {
                true => Some([norm("attn_q_norm.weight")?, norm("attn_k_norm.weight")?]),
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
    factors: Option<Vec<f32>>,
) -> Result<PositionData<D>, GenerateError> {
    let (dimensions, theta, divisor, pairing) = match a.position {
        Position::Rotary { dimensions, theta, divisor, pairing } => (dimensions, theta, divisor, pairing),
        Position::LinearBias => {
            return Ok(PositionData::LinearBias(vector(device, "positions", &slopes(a.attention.heads))?));
        }
    };
    let divisors = factors.unwrap_or_else(|| vec![1.0; dimensions / 2]);
    let frequency = |i: usize| theta.powf(-2.0 * i as f32 / dimensions as f32) / divisor / divisors[i];
    Ok(PositionData::Rotary((0..dimensions / 2).map(frequency).collect(), pairing))
}

/// Slopes of the linear biases: 2⁻⁸ᐟⁿ, its square and so on; for a number of heads that is no power of two, those of
/// the next lower one, then every other of the next higher one (Press et al. 2022, their code).
fn slopes(heads: usize) -> Vec<f32> {
    let power = 1usize << heads.ilog2();
    let slope = |n: usize, i: usize| 2f32.powf(-8.0 * (i + 1) as f32 / n as f32);
    let (first, rest) = (0..power.min(heads), 0..heads - power);
    first.map(|i| slope(power, i)).chain(rest.map(|i| slope(2 * power, 2 * i))).collect()
}
