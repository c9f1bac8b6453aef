//! A BERT bi-encoder (Devlin et al. 2019; Reimers and Gurevych 2019) over the operator set.

use huatuo_compute::{Attention, Device, Encoding, Linear, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use crate::{ModelFiles, RetrieveError};

/// Weights and tokenizer of an encoder on a device.
pub struct Encoder<D: Device> {
    device: D,
    config: BertConfig,
    tokenizer: Tokenizer,
    pooling: Pooling,
    normalize: bool,
    sha256: String,
    words: D::Matrix,
    positions: D::Matrix,
    types: D::Matrix,
    embedding_norm: Norm<D>,
    layers: Vec<Layer<D>>,
}

#[derive(Clone, Debug, Deserialize)]
struct BertConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
}

fn gelu() -> String {
    "gelu".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pooling {
    Mean,
    Cls,
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

impl<D: Device> Encoder<D> {
    /// Loads an encoder from its files; `sha256` of the weights tells indexes of other encoders apart.
    pub fn load(device: D, files: &ModelFiles) -> Result<Self, RetrieveError> {
        let config: BertConfig = json(files, "config.json")?;
        let heads = config.num_attention_heads;
        if heads == 0
            || config.hidden_size == 0
            || config.type_vocab_size == 0
            || !config.hidden_size.is_multiple_of(heads)
            || config.hidden_act != "gelu"
        {
            let reason = "expected a BERT with whole heads and the gelu activation".to_owned();
            return Err(RetrieveError::BadFile { file: "config.json", reason });
        }
        let (pooling, normalize) = pipeline(files)?;
        let weights = files.get("model.safetensors")?;
        let tensors = SafeTensors::deserialize(weights)
            .map_err(|error| RetrieveError::BadFile { file: "model.safetensors", reason: error.to_string() })?;
        let loader = Loader { device: &device, tensors: &tensors };
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
        let table = |name: &str, rows| loader.matrix(&format!("embeddings.{name}_embeddings.weight"), rows, hidden);
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            types: table("token_type", config.type_vocab_size)?,
            embedding_norm: loader.norm("embeddings.LayerNorm", hidden)?,
            tokenizer: tokenizer(files, &config)?,
            sha256: huatuo_fetch::sha256_hex(weights),
            layers,
            pooling,
            normalize,
            config,
            device,
        })
    }

    /// Numbers in a vector.
    pub fn dimensions(&self) -> usize {
        self.config.hidden_size
    }

    /// SHA-256 of the weights, hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The vector of a text, cut at the encoder's longest sequence; of unit length where the model says so.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        let hidden = self.forward(&self.tokens(text)?);
        let mut pooled = match self.pooling {
            Pooling::Cls => hidden[..self.dimensions()].to_vec(),
            Pooling::Mean => mean(&hidden, self.dimensions()),
        };
        if self.normalize {
            to_unit_length(&mut pooled);
        }
        Ok(pooled)
    }

    /// A text as the bag of its words: the mean of its tokens' embeddings before the first layer, of unit length. Some
    /// hundred times cheaper than [`Self::embed`], and good enough to choose between sentences of one record.
    pub fn embed_words(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        let ids = self.tokens(text)?;
        let mut words = self.device.buffer(ids.len() * self.dimensions());
        self.device.embed(&self.words, &ids, &mut words);
        let mut numbers = vec![0.0; ids.len() * self.dimensions()];
        self.device.read(&words, 0, &mut numbers);
        let mut bag = mean(&numbers, self.dimensions());
        to_unit_length(&mut bag);
        Ok(bag)
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, RetrieveError> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| RetrieveError::BadFile { file: "tokenizer.json", reason: error.to_string() })?;
        let ids = encoding.get_ids();
        if ids.is_empty() || ids.iter().any(|id| *id as usize >= self.config.vocab_size) {
            let reason = "it gave no token or one that the model doesn't have".to_owned();
            return Err(RetrieveError::BadFile { file: "tokenizer.json", reason });
        }
        Ok(ids.to_vec())
    }

    /// Last hidden states `[tokens, hidden]`.
    fn forward(&self, ids: &[u32]) -> Vec<f32> {
        let (device, config, rows) = (&self.device, &self.config, ids.len());
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let shape = Attention { heads, kv_heads: heads, head_dim: hidden / heads };
        let row_buffer = || device.buffer(rows * hidden);
        let (mut x, mut part) = (row_buffer(), row_buffer());
        device.embed(&self.words, ids, &mut x);
        device.embed(&self.positions, &(0..rows as u32).collect::<Vec<_>>(), &mut part);
        device.add(&mut x, &part, rows * hidden);
        device.embed(&self.types, &vec![0; rows], &mut part);
        device.add(&mut x, &part, rows * hidden);
        self.norm(&self.embedding_norm, &mut x, rows);
        let (mut q, mut k, mut v, mut attended) = (row_buffer(), row_buffer(), row_buffer(), row_buffer());
        let mut wide = device.buffer(rows * config.intermediate_size);
        let linear = |w: &Linear<D>, x: &D::Buffer, out: &mut D::Buffer| device.project(x, rows, &mut [w.onto(out)]);
        for layer in &self.layers {
            device.project(&x, rows, &mut [layer.q.onto(&mut q), layer.k.onto(&mut k), layer.v.onto(&mut v)]);
            device.full_attention(shape, &q, &k, &v, rows, &mut attended);
            linear(&layer.attention_output, &attended, &mut part);
            device.add(&mut x, &part, rows * hidden);
            self.norm(&layer.attention_norm, &mut x, rows);
            linear(&layer.up, &x, &mut wide);
            device.gelu(&mut wide, rows * config.intermediate_size);
            linear(&layer.down, &wide, &mut part);
            device.add(&mut x, &part, rows * hidden);
            self.norm(&layer.output_norm, &mut x, rows);
        }
        let mut out = vec![0.0; rows * hidden];
        device.read(&x, 0, &mut out);
        out
    }

    fn norm(&self, norm: &Norm<D>, x: &mut D::Buffer, rows: usize) {
        self.device.layer_norm(x, &norm.weight, &norm.bias, self.config.layer_norm_eps, rows);
    }
}

fn to_unit_length(x: &mut [f32]) {
    let length = x.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    x.iter_mut().for_each(|x| *x /= length);
}

fn mean(hidden: &[f32], dimensions: usize) -> Vec<f32> {
    let rows = (hidden.len() / dimensions) as f32;
    let mut sum = vec![0.0; dimensions];
    for row in hidden.chunks_exact(dimensions) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x / rows);
    }
    sum
}

fn json<T: for<'a> Deserialize<'a>>(files: &ModelFiles, file: &'static str) -> Result<T, RetrieveError> {
    serde_json::from_slice(files.get(file)?).map_err(|error| RetrieveError::BadFile { file, reason: error.to_string() })
}

fn tokenizer(files: &ModelFiles, config: &BertConfig) -> Result<Tokenizer, RetrieveError> {
    let bad = |reason: String| RetrieveError::BadFile { file: "tokenizer.json", reason };
    let bytes = files.get("tokenizer.json")?;
    let mut tokenizer = huatuo_tokenizer::from_json(bytes).map_err(|error| bad(error.to_string()))?;
    if tokenizer.get_vocab_size(true) > config.vocab_size {
        return Err(bad(format!("it has more tokens than the model's {}", config.vocab_size)));
    }
    let max_length = longest_sequence(files, &tokenizer)?.min(config.max_position_embeddings);
    let marks = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    if max_length <= marks {
        return Err(bad(format!("its longest sequence is {max_length} tokens, of which {marks} are marks")));
    }
    tokenizer
        .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
        .map_err(|error| bad(error.to_string()))?;
    Ok(tokenizer)
}

/// What sentence-transformers cuts at: `max_seq_length`, else what the tokenizer says.
fn longest_sequence(files: &ModelFiles, tokenizer: &Tokenizer) -> Result<usize, RetrieveError> {
    #[derive(Deserialize)]
    struct Limits {
        max_seq_length: Option<usize>,
    }
    let stated = match files.get("sentence_bert_config.json") {
        Ok(_) => json::<Limits>(files, "sentence_bert_config.json")?.max_seq_length,
        Err(_) => None,
    };
    Ok(stated.or(tokenizer.get_truncation().map(|t| t.max_length)).unwrap_or(usize::MAX))
}

/// Reads `modules.json`: how token vectors are pooled, and whether the result is brought to unit length.
fn pipeline(files: &ModelFiles) -> Result<(Pooling, bool), RetrieveError> {
    #[derive(Deserialize)]
    struct Module {
        r#type: String,
    }
    let modules: Vec<Module> = json(files, "modules.json")?;
    let normalize = modules.iter().any(|module| module.r#type.ends_with("Normalize"));
    let pooling: serde_json::Value = json(files, "1_Pooling/config.json")?;
    let wanted = |key: &str, name: &str| pooling[key].as_bool() == Some(true) || pooling["pooling_mode"] == name;
    match (wanted("pooling_mode_mean_tokens", "mean"), wanted("pooling_mode_cls_token", "cls")) {
        (true, _) => Ok((Pooling::Mean, normalize)),
        (_, true) => Ok((Pooling::Cls, normalize)),
        _ => {
            let reason = "only mean and cls pooling are supported".to_owned();
            Err(RetrieveError::BadFile { file: "1_Pooling/config.json", reason })
        }
    }
}

/// Fetches tensors by name, with or without the `bert.` prefix, and checks their shapes.
struct Loader<'a, D: Device> {
    device: &'a D,
    tensors: &'a SafeTensors<'a>,
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

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<D::Matrix, RetrieveError> {
        self.with_tensor(name, &[rows, columns], |tensor| Ok(self.device.matrix(tensor)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use huatuo_compute::Cpu;

    /// Files of an encoder without layers, of width 2 with three tokens, all weights zero.
    fn files(tokenizer: &str) -> ModelFiles {
        let config = r#"{"hidden_size":2,"num_hidden_layers":0,"num_attention_heads":1,"intermediate_size":2,
            "max_position_embeddings":8,"type_vocab_size":1,"vocab_size":3,"layer_norm_eps":1e-12}"#;
        let mut tensors = Vec::new();
        for (name, shape) in [
            ("embeddings.word_embeddings.weight", vec![3, 2]),
            ("embeddings.position_embeddings.weight", vec![8, 2]),
            ("embeddings.token_type_embeddings.weight", vec![1, 2]),
            ("embeddings.LayerNorm.weight", vec![2]),
            ("embeddings.LayerNorm.bias", vec![2]),
        ] {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            tensors.push((name, shape, bytes));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (*name, safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let mut files = ModelFiles::default();
        files.insert("config.json", config.into());
        files.insert("modules.json", b"[]".to_vec());
        files.insert("1_Pooling/config.json", br#"{"pooling_mode_mean_tokens":true}"#.to_vec());
        files.insert("model.safetensors", safetensors::serialize(views, None).unwrap());
        files.insert("tokenizer.json", tokenizer.into());
        files
    }

    const TOKENIZER: &str =
        r#"{"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"aa":2},"merges":[["a","a"]]}}"#;

    fn error(tokenizer: &str) -> String {
        Encoder::load(Cpu::new(), &files(tokenizer)).err().unwrap().to_string()
    }

    #[test]
    fn a_text_has_a_vector_of_the_models_width() {
        let encoder = Encoder::load(Cpu::new(), &files(TOKENIZER)).unwrap();
        assert_eq!(encoder.embed("aaa").unwrap().len(), 2);
    }

    #[test]
    fn a_tokenizer_with_merges_of_no_tokens_is_an_error() {
        let merges = TOKENIZER.replace(r#"["a","a"]"#, r#"["aa","aa"]"#);
        assert!(error(&merges).contains("tokenizer.json` can't be read: its `model.merges`"), "{}", error(&merges));
    }

    #[test]
    fn a_length_that_the_marks_fill_is_an_error() {
        let marks = r#"{"post_processor":{"type":"BertProcessing","sep":["a",1],"cls":["a",1]},"model""#;
        let mut files = files(&TOKENIZER.replace(r#"{"model""#, marks));
        assert!(Encoder::load(Cpu::new(), &files).is_ok());
        files.insert("sentence_bert_config.json", br#"{"max_seq_length":2}"#.to_vec());
        let error = Encoder::load(Cpu::new(), &files).err().unwrap().to_string();
        assert!(error.contains("longest sequence is 2 tokens, of which 2 are marks"), "{error}");
    }
}
