//! A BERT encoder network (Devlin et al. 2019) over the operator set: token ids in, hidden states out.

use huatuo_compute::{Attention, Cpu, CpuMatrix, Device, Encoding, Linear, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::RetrieveError;

/// Numbers that a linear layer's weights and activations are multiplied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncoderPrecision {
    /// Single precision: the vectors of the published weights.
    #[default]
    F32,
    /// 8 bits with a scale for some columns each: a quarter of the memory and less than half of the time; vectors keep a
    /// cosine of 0.99 to those in [`Self::F32`].
    Int8,
}

/// Weights of a network on a device.
pub struct Bert<D: Device> {
    device: D,
    config: BertConfig,
    /// Looked up on the processor whatever the device: words alone are asked for too, and a lookup is no work.
    words: CpuMatrix,
    positions: CpuMatrix,
    types: CpuMatrix,
    embedding_norm: Norm<D>,
    layers: Vec<Layer<D>>,
}

/// A network's shape, as `config.json` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    /// Numbers in a hidden state.
    pub hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    /// Tokens of the longest text.
    pub max_position_embeddings: usize,
    type_vocab_size: usize,
    /// Token ids.
    pub vocab_size: usize,
    layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
}

fn gelu() -> String {
    "gelu".to_owned()
}

impl BertConfig {
    /// Reads `config.json`.
    fn parse(bytes: &[u8]) -> Result<Self, RetrieveError> {
        let bad = |reason: String| RetrieveError::BadFile { file: "config.json", reason };
        let config: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        let heads = config.num_attention_heads;
        if heads == 0
            || config.hidden_size == 0
            || config.type_vocab_size == 0
            || !config.hidden_size.is_multiple_of(heads)
            || config.hidden_act != "gelu"
        {
            return Err(bad("expected a BERT with whole heads and the gelu activation".to_owned()));
        }
        Ok(config)
    }
}

struct Norm<D: Device> {
    weight: D::Buffer,
    bias: D::Buffer,
}

struct Layer<D: Device> {
    q: Linear<D>,
    k: Linear<D>,
    v: Linear<D>,
    attention_output: Linear<D>,
    attention_norm: Norm<D>,
    up: Linear<D>,
    down: Linear<D>,
    output_norm: Norm<D>,
}

impl<D: Device> Bert<D> {
    /// What it computes on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Brings a network to a device from its `config.json` and `model.safetensors`.
    pub fn load(device: D, config: &[u8], weights: &[u8], precision: EncoderPrecision) -> Result<Self, RetrieveError> {
        let config = BertConfig::parse(config)?;
        let tensors = SafeTensors::deserialize(weights)
            .map_err(|error| RetrieveError::BadFile { file: "model.safetensors", reason: error.to_string() })?;
        let loader = Loader { device: &device, tensors: &tensors, precision };
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let mut layers = Vec::new();
        for i in 0..config.num_hidden_layers {
            let at = |part: &str| format!("encoder.layer.{i}.{part}");
            layers.push(Layer {
                q: loader.linear(&at("attention.self.query"), hidden, hidden)?,
                k: loader.linear(&at("attention.self.key"), hidden, hidden)?,
                v: loader.linear(&at("attention.self.value"), hidden, hidden)?,
                attention_output: loader.linear(&at("attention.output.dense"), hidden, hidden)?,
                attention_norm: loader.norm(&at("attention.output.LayerNorm"), hidden)?,
                up: loader.linear(&at("intermediate.dense"), wide, hidden)?,
                down: loader.linear(&at("output.dense"), hidden, wide)?,
                output_norm: loader.norm(&at("output.LayerNorm"), hidden)?,
            });
        }
        let table = |name: &str, rows| loader.table(&format!("embeddings.{name}_embeddings.weight"), rows, hidden);
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            types: table("token_type", config.type_vocab_size)?,
            embedding_norm: loader.norm("embeddings.LayerNorm", hidden)?,
            layers,
            config,
            device,
        })
    }

    /// Its shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Embeddings of words before the first layer, `[tokens, hidden]`.
    pub fn words(&self, ids: &[u32]) -> Vec<f32> {
        self.look_up(&self.words, ids)
    }

    fn look_up(&self, table: &CpuMatrix, ids: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; ids.len() * self.config.hidden_size];
        Cpu::new().embed(table, ids, &mut rows);
        rows
    }

    /// Last hidden states of texts, `[tokens of all texts, hidden]`. The texts' tokens are rows of one matrix, so that
    /// each weight is read once for all of them; only attention keeps to the text. Ids are below the vocabulary's size,
    /// a text's tokens at most as many as there are positions.
    pub async fn hidden_states(&self, texts: &[&[u32]]) -> Result<Vec<f32>, RetrieveError> {
        let (device, config) = (&self.device, &self.config);
        let lengths: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
        let rows: usize = lengths.iter().sum();
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let shape = Attention { heads, kv_heads: heads, head_dim: hidden / heads };
        let row_buffer = || device.buffer(rows * hidden);
        let positions: Vec<u32> = lengths.iter().flat_map(|length| 0..*length as u32).collect();
        let mut words = self.words(&texts.concat());
        let types = self.look_up(&self.types, &[0]);
        for word in words.chunks_exact_mut(hidden) {
            word.iter_mut().zip(&types).for_each(|(x, y)| *x += y);
        }
        let (mut x, mut part) = (self.upload(&words)?, self.upload(&self.look_up(&self.positions, &positions))?);
        self.add_norm(&self.embedding_norm, &mut x, &part, rows);
        let (mut q, mut k, mut v, mut attended) = (row_buffer(), row_buffer(), row_buffer(), row_buffer());
        let mut wide = device.buffer(rows * config.intermediate_size);
        let linear = |w: &Linear<D>, x: &D::Buffer, out: &mut D::Buffer| device.project(x, rows, &mut [w.onto(out)]);
        for layer in &self.layers {
            device.project(&x, rows, &mut [layer.q.onto(&mut q), layer.k.onto(&mut k), layer.v.onto(&mut v)]);
            device.full_attention(shape, &q, &k, &v, &lengths, &mut attended);
            linear(&layer.attention_output, &attended, &mut part);
            self.add_norm(&layer.attention_norm, &mut x, &part, rows);
            linear(&layer.up, &x, &mut wide);
            device.gelu(&mut wide, rows * config.intermediate_size);
            linear(&layer.down, &wide, &mut part);
            self.add_norm(&layer.output_norm, &mut x, &part, rows);
        }
        let mut numbers = vec![0.0; rows * hidden];
        device.read(&x, 0, &mut numbers).await?;
        Ok(numbers)
    }

    fn upload(&self, numbers: &[f32]) -> Result<D::Buffer, RetrieveError> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = [numbers.len()];
        let tensor = TensorView { name: "embeddings", shape: &shape, encoding: Encoding::F32, bytes: &bytes };
        Ok(self.device.vector(&tensor)?)
    }

    fn add_norm(&self, norm: &Norm<D>, x: &mut D::Buffer, y: &D::Buffer, rows: usize) {
        self.device.add_layer_norm(x, y, &norm.weight, &norm.bias, self.config.layer_norm_eps, rows);
    }
}

/// Fetches tensors by name, with or without the `bert.` prefix, and checks their shapes.
struct Loader<'a, D: Device> {
    device: &'a D,
    tensors: &'a SafeTensors<'a>,
    precision: EncoderPrecision,
}

impl<D: Device> Loader<'_, D> {
    fn linear(&self, name: &str, rows: usize, columns: usize) -> Result<Linear<D>, RetrieveError> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), rows, columns)?,
            bias: Some(self.vector(&format!("{name}.bias"), rows)?),
        })
    }

    fn norm(&self, name: &str, len: usize) -> Result<Norm<D>, RetrieveError> {
        Ok(Norm {
            weight: self.vector(&format!("{name}.weight"), len)?,
            bias: self.vector(&format!("{name}.bias"), len)?,
        })
    }

    /// A matrix that rows are looked up in.
    fn table(&self, name: &str, rows: usize, columns: usize) -> Result<CpuMatrix, RetrieveError> {
        self.with_tensor(name, &[rows, columns], |tensor| Ok(Cpu::new().matrix(tensor)?))
    }

    /// A matrix that is multiplied.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<D::Matrix, RetrieveError> {
        self.with_tensor(name, &[rows, columns], |tensor| match self.precision {
            EncoderPrecision::Int8 => Ok(self.device.rounded_matrix(tensor)?),
            EncoderPrecision::F32 => Ok(self.device.matrix(tensor)?),
        })
    }

    fn vector(&self, name: &str, len: usize) -> Result<D::Buffer, RetrieveError> {
        self.with_tensor(name, &[len], |tensor| Ok(self.device.vector(tensor)?))
    }

    fn with_tensor<T>(
        &self,
        name: &str,
        expected: &[usize],
        load: impl Fn(&TensorView<'_>) -> Result<T, RetrieveError>,
    ) -> Result<T, RetrieveError> {
        let wrong = |found: &[usize]| RetrieveError::Tensor {
            name: name.to_owned(),
            expected: expected.to_vec(),
            found: found.to_vec(),
        };
        let found = self.tensors.tensor(name).or_else(|_| self.tensors.tensor(&format!("bert.{name}")));
        let tensor = found.map_err(|_| wrong(&[]))?;
        if tensor.shape() != expected {
            return Err(wrong(tensor.shape()));
        }
        let encoding = match tensor.dtype() {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            other => {
                let reason = format!("tensor `{name}` is {other:?}; supported: F32, F16, BF16");
                return Err(RetrieveError::BadFile { file: "model.safetensors", reason });
            }
        };
        load(&TensorView { name, shape: expected, encoding, bytes: tensor.data() })
    }
}
