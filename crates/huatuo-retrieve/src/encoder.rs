//! A bi-encoder (Reimers and Gurevych 2019): texts to vectors whose cosine says how close they are.

use huatuo_compute::Device;
use serde::Deserialize;
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use crate::bert::{Bert, BertConfig};
use crate::{EncoderPrecision, ModelFiles, RetrieveError};

/// Tokens that a pass takes at most, unless a single text has more: enough to read the weights seldom, few enough that
/// their activations stay in the processor's cache.
const PASS_TOKENS: usize = 256;

/// A network and its tokenizer on a device.
pub struct Encoder<D: Device> {
    network: Bert<D>,
    tokenizer: Tokenizer,
    pooling: Pooling,
    normalize: bool,
    sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pooling {
    Mean,
    Cls,
}

impl<D: Device> Encoder<D> {
    /// Loads an encoder from its files; `sha256` of the weights tells indexes of other encoders apart.
    pub fn load(device: D, files: &ModelFiles, precision: EncoderPrecision) -> Result<Self, RetrieveError> {
        let config = files.get("config.json")?;
        let (pooling, normalize) = pipeline(files)?;
        let weights = files.get("model.safetensors")?;
        let network = Bert::load(device, config, weights, precision)?;
        let tokenizer = tokenizer(files, network.config())?;
        Ok(Self { network, tokenizer, pooling, normalize, sha256: huatuo_fetch::sha256_hex(weights) })
    }

    /// What it computes on.
    pub fn device(&self) -> &D {
        self.network.device()
    }

    /// Numbers in a vector.
    pub fn dimensions(&self) -> usize {
        self.network.config().hidden_size
    }

    /// SHA-256 of the weights, hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The vector of a text, cut at the encoder's longest sequence; of unit length where the model says so.
    pub async fn embed(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        let ids = self.tokens(text)?;
        Ok(self.pool(&self.network.hidden_states(&[&ids]).await?))
    }

    /// The vectors of texts, each as [`Self::embed`] gives it. Texts of any length share a pass without padding.
    pub async fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, RetrieveError> {
        let ids = texts.iter().map(|text| self.tokens(text)).collect::<Result<Vec<_>, _>>()?;
        let mut left: &[Vec<u32>] = &ids;
        let mut vectors = Vec::with_capacity(texts.len());
        while !left.is_empty() {
            let (pass, rest) = left.split_at(texts_in_pass(left));
            let texts: Vec<&[u32]> = pass.iter().map(Vec::as_slice).collect();
            let hidden = self.network.hidden_states(&texts).await?;
            let mut states = hidden.as_slice();
            for text in texts {
                let (own, others) = states.split_at(text.len() * self.dimensions());
                vectors.push(self.pool(own));
                states = others;
            }
            left = rest;
        }
        Ok(vectors)
    }

    /// A text as the bag of its words: the mean of its tokens' embeddings before the first layer, of unit length. Some
    /// hundred times cheaper than [`Self::embed`], and good enough to choose between sentences of one record.
    pub fn embed_words(&self, text: &str) -> Result<Vec<f32>, RetrieveError> {
        let mut bag = mean(&self.network.words(&self.tokens(text)?), self.dimensions());
        to_unit_length(&mut bag);
        Ok(bag)
    }

    /// A text's vector from its hidden states `[tokens, hidden]`.
    fn pool(&self, hidden: &[f32]) -> Vec<f32> {
        let mut pooled = match self.pooling {
            Pooling::Cls => hidden[..self.dimensions()].to_vec(),
            Pooling::Mean => mean(hidden, self.dimensions()),
        };
        if self.normalize {
            to_unit_length(&mut pooled);
        }
        pooled
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, RetrieveError> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| RetrieveError::BadFile { file: "tokenizer.json", reason: error.to_string() })?;
        let ids = encoding.get_ids();
        if ids.is_empty() || ids.iter().any(|id| *id as usize >= self.network.config().vocab_size) {
            let reason = "it gave no token or one that the model doesn't have".to_owned();
            return Err(RetrieveError::BadFile { file: "tokenizer.json", reason });
        }
        Ok(ids.to_vec())
    }
}

/// How many of the texts, one at least, fit into one pass.
fn texts_in_pass(texts: &[Vec<u32>]) -> usize {
    let mut tokens = 0;
    let fitting = texts.iter().take_while(|ids| {
        tokens += ids.len();
        tokens <= PASS_TOKENS
    });
    fitting.count().max(1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use huatuo_compute::Cpu;
    use safetensors::Dtype;

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
        Encoder::load(Cpu::new(), &files(tokenizer), EncoderPrecision::F32).err().unwrap().to_string()
    }

    #[test]
    fn a_text_has_a_vector_of_the_models_width() {
        let encoder = Encoder::load(Cpu::new(), &files(TOKENIZER), EncoderPrecision::F32).unwrap();
        assert_eq!(pollster::block_on(encoder.embed("aaa")).unwrap().len(), 2);
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
        assert!(Encoder::load(Cpu::new(), &files, EncoderPrecision::F32).is_ok());
        files.insert("sentence_bert_config.json", br#"{"max_seq_length":2}"#.to_vec());
        let error = Encoder::load(Cpu::new(), &files, EncoderPrecision::F32).err().unwrap().to_string();
        assert!(error.contains("longest sequence is 2 tokens, of which 2 are marks"), "{error}");
    }
}
