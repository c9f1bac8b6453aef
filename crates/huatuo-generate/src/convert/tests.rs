//! Conversion of checkpoints built in memory; parity of whole networks is in `tests/tests/decoder_parity.rs`.

use huatuo_compute::{Cpu, Device};
use serde_json::{Value, json};

use super::*;
use crate::{Architecture, Gguf, GgufError, Value as GgufValue};

const TOKENIZER: &str = r#"{"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"<0x41>":1,"a":2},"merges":[]},"added_tokens":[{"id":3,"content":"</s>","special":true}],"normalizer":{"type":"Prepend","prepend":"▁"}}"#;
const SETTINGS: &str = r#"{"eos_token":{"content":"</s>"},"add_bos_token":true,"chat_template":"{{ messages }}"}"#;

/// Files of a checkpoint that a test may damage.
struct Checkpoint {
    config: Value,
    /// Name, shape; numbers count up from 0 through the file.
    tensors: Vec<(String, Vec<usize>)>,
    tokenizer: String,
}

impl Checkpoint {
    /// Width 4, two heads of 2, one for keys, one block, five tokens.
    fn llama() -> Self {
        let config = json!({
            "model_type": "llama", "hidden_size": 4, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16, "vocab_size": 5,
            "bos_token_id": 1,
        });
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![5, 4])];
        for (name, shape) in [
            ("input_layernorm", vec![4]),
            ("self_attn.q_proj", vec![4, 4]),
            ("self_attn.k_proj", vec![2, 4]),
            ("self_attn.v_proj", vec![2, 4]),
            ("self_attn.o_proj", vec![4, 4]),
            ("post_attention_layernorm", vec![4]),
            ("mlp.gate_proj", vec![32, 4]),
            ("mlp.up_proj", vec![32, 4]),
            ("mlp.down_proj", vec![4, 32]),
        ] {
            tensors.push((format!("model.layers.0.{name}.weight"), shape));
        }
        tensors.push(("model.norm.weight".to_owned(), vec![4]));
        tensors.push(("lm_head.weight".to_owned(), vec![5, 4]));
        Self { config, tensors, tokenizer: TOKENIZER.to_owned() }
    }

    fn safetensors(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in &self.tensors {
            let start = data.len();
            for _ in 0..shape.iter().product::<usize>() {
                data.extend((data.len() as f32 / 4.0).to_le_bytes());
            }
            header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let header = Value::Object(header).to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
    }

    fn convert(&self, mixture: Mixture) -> Result<(Vec<u8>, Conversion), ConvertError> {
        let (config, weights) = (self.config.to_string(), self.safetensors());
        let mut files = CheckpointFiles::default();
        files.insert("config.json", config.as_bytes());
        files.insert("model.safetensors", &weights);
        files.insert("tokenizer.json", self.tokenizer.as_bytes());
        files.insert("tokenizer_config.json", SETTINGS.as_bytes());
        let mut out = Vec::new();
        let conversion = convert(&files, "test", mixture, &mut out)?;
        Ok((out, conversion))
    }

    fn error(&self) -> ConvertError {
        self.convert(F32).unwrap_err()
    }
}

const F32: Mixture = Mixture::Uniform(Encoding::F32);

fn numbers(gguf: &Gguf<'_>, name: &str) -> Vec<f32> {
    Cpu::new().vector(&gguf.tensor(name).unwrap()).unwrap()
}

#[test]
fn a_checkpoint_becomes_a_model_file_with_its_description() {
    let (file, conversion) = Checkpoint::llama().convert(F32).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let architecture = Architecture::from_gguf(&gguf).unwrap();
    assert_eq!((architecture.hidden, architecture.attention.kv_heads, architecture.context), (4, 1, 16));
    assert_eq!(conversion.tensors, 12);
    assert!(conversion.fallbacks.is_empty());
    assert_eq!(gguf.text("tokenizer.chat_template"), Ok("{{ messages }}"));
}

#[test]
fn rows_of_a_head_are_interleaved_for_queries_and_keys_only() {
    let mut checkpoint = Checkpoint::llama();
    checkpoint.config["num_attention_heads"] = json!(1);
    checkpoint.tensors.retain(|(name, _)| !name.contains("k_proj") && !name.contains("v_proj"));
    for part in ["k", "v"] {
        checkpoint.tensors.push((format!("model.layers.0.self_attn.{part}_proj.weight"), vec![4, 4]));
    }
    let (file, _) = checkpoint.convert(F32).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let first_of_rows = |name: &str| numbers(&gguf, name).chunks(4).map(|row| row[0]).collect::<Vec<_>>();
    let order = |name: &str| {
        let rows = first_of_rows(name);
        let least = rows.iter().fold(f32::INFINITY, |least, &x| least.min(x));
        rows.iter().map(|x| ((x - least) / 4.0) as usize).collect::<Vec<_>>()
    };
    assert_eq!(order("blk.0.attn_q.weight"), [0, 2, 1, 3]);
    assert_eq!(order("blk.0.attn_k.weight"), [0, 2, 1, 3]);
    assert_eq!(order("blk.0.attn_v.weight"), [0, 1, 2, 3]);
}

#[test]
fn the_tokenizer_comes_along() {
    let (file, _) = Checkpoint::llama().convert(F32).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let texts = ["<unk>", "<0x41>", "a", "</s>", "[PAD4]"].map(|text| GgufValue::Text(text.to_owned())).to_vec();
    assert_eq!(gguf.metadata("tokenizer.ggml.tokens"), Some(&GgufValue::Array(texts)));
    let types = [2, 6, 1, 3, 5].map(GgufValue::Integer).to_vec();
    assert_eq!(gguf.metadata("tokenizer.ggml.token_type"), Some(&GgufValue::Array(types)));
    assert_eq!(gguf.integer("tokenizer.ggml.eos_token_id"), Ok(3));
    assert_eq!(gguf.integer("tokenizer.ggml.bos_token_id"), Ok(1));
    assert_eq!(gguf.integer("tokenizer.ggml.add_bos_token"), Ok(1));
    assert_eq!(gguf.integer("tokenizer.ggml.add_space_prefix"), Ok(1));
}

#[test]
fn a_tied_head_is_left_out() {
    let mut checkpoint = Checkpoint::llama();
    checkpoint.config["tie_word_embeddings"] = json!(true);
    let (file, _) = checkpoint.convert(F32).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.tensor("output.weight").unwrap_err(), GgufError::MissingTensor("output.weight".to_owned()));
}

#[test]
fn baichuan2_heads_are_normalised() {
    let mut checkpoint = Checkpoint::llama();
    checkpoint.config["model_type"] = json!("baichuan");
    checkpoint.config["vocab_size"] = json!(125_696);
    checkpoint.config["num_key_value_heads"] = json!(2);
    checkpoint.tensors.retain(|(name, _)| !["q_proj", "k_proj", "v_proj"].iter().any(|part| name.contains(part)));
    checkpoint.tensors.push(("model.layers.0.self_attn.W_pack.weight".to_owned(), vec![12, 4]));
    for (name, shape) in &mut checkpoint.tensors {
        if name.contains("embed") || name.contains("lm_head") {
            shape[0] = 125_696;
        }
    }
    let (file, _) = checkpoint.convert(F32).unwrap();
    let head = numbers(&Gguf::parse(&file).unwrap(), "output.weight");
    for row in head.chunks(4) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn quantizing_keeps_metadata_and_vectors_and_says_what_fell_back() {
    let (file, _) = Checkpoint::llama().convert(F32).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let mut out = Vec::new();
    let conversion = quantize(&gguf, Mixture::Uniform(Encoding::Q4_0), &mut out).unwrap();
    let quantized = Gguf::parse(&out).unwrap();
    assert_eq!(quantized.tensor("blk.0.ffn_down.weight").unwrap().encoding, Encoding::Q4_0);
    assert_eq!(quantized.tensor("blk.0.attn_q.weight").unwrap().encoding, Encoding::F16, "rows of 4 are no block");
    assert!(conversion.fallbacks.contains(&("blk.0.attn_q.weight".to_owned(), Encoding::F16)));
    assert_eq!(quantized.tensor("output_norm.weight").unwrap().encoding, Encoding::F32);
    for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.scores", "llama.attention.layer_norm_rms_epsilon"] {
        assert_eq!(quantized.metadata(key), gguf.metadata(key), "{key}");
    }
    let (old, new) = (numbers(&gguf, "blk.0.ffn_down.weight"), numbers(&quantized, "blk.0.ffn_down.weight"));
    let largest = old.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() <= largest / 8.0));
}

#[test]
fn tensors_that_do_not_fit_the_network_are_named() {
    let mut checkpoint = Checkpoint::llama();
    checkpoint.tensors.push(("model.layers.0.mlp.experts.weight".to_owned(), vec![2, 2]));
    assert!(matches!(checkpoint.error(), ConvertError::UnknownTensor { name, .. } if name.contains("experts")));
    let mut checkpoint = Checkpoint::llama();
    checkpoint.tensors.retain(|(name, _)| !name.contains("k_proj"));
    assert!(matches!(checkpoint.error(), ConvertError::MissingTensor(name) if name.contains("k_proj")));
    let mut checkpoint = Checkpoint::llama();
    checkpoint.config["vocab_size"] = json!(6);
    let error = checkpoint.error().to_string();
    assert_eq!(
        error,
        "model.safetensors: tensor `model.embed_tokens.weight` has shape [5, 4], config.json asks for [6, 4]"
    );
}

#[test]
fn settings_that_no_supported_network_has_are_refused() {
    let refused = |key: &str, value: Value| {
        let mut checkpoint = Checkpoint::llama();
        checkpoint.config[key] = value;
        checkpoint.error().to_string()
    };
    assert!(refused("model_type", json!("mamba")).contains("supported: baichuan, chatglm, llama, qwen2, qwen3"));
    assert!(refused("rope_scaling", json!({"type": "yarn"})).contains("yarn"));
    assert!(refused("mlp_bias", json!(true)).contains("mlp_bias"));
    assert!(refused("hidden_act", json!("gelu")).contains("gelu"));
    assert!(refused("num_hidden_layers", json!(u64::MAX)).contains("num_hidden_layers"));
    assert!(refused("num_hidden_layers", json!(100_000)).contains("512"));
    assert!(refused("hidden_size", json!(-4)).contains("hidden_size"));
    assert!(refused("num_key_value_heads", json!(3)).contains("no attention"));
}

#[test]
fn a_tokenizer_of_another_kind_is_refused() {
    let with = |from: &str, to: &str| Checkpoint { tokenizer: TOKENIZER.replace(from, to), ..Checkpoint::llama() };
    assert!(with("\"BPE\"", "\"WordPiece\"").error().to_string().contains("WordPiece"));
    assert!(with("\"a\":2", "\"a\":9").error().to_string().contains("token 9"));
    assert!(with("true,\"unk", "false,\"unk").error().to_string().contains("neither byte-level"));
}

#[test]
fn an_index_must_name_files_that_are_there() {
    let (config, weights) = (Checkpoint::llama().config.to_string(), Checkpoint::llama().safetensors());
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).to_string();
    let mut files = CheckpointFiles::default();
    files.insert("config.json", config.as_bytes());
    files.insert("model.safetensors.index.json", index.as_bytes());
    files.insert("model-1.safetensors", &weights);
    let error = convert(&files, "test", F32, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("model-2.safetensors"), "{error}");
}

#[test]
fn llama_3_stretches_slow_frequencies_only() {
    let mut checkpoint = Checkpoint::llama();
    checkpoint.config["num_attention_heads"] = json!(1);
    checkpoint.config["rope_theta"] = json!(10_000.0);
    checkpoint.config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    for part in ["k", "v"] {
        let name = format!("model.layers.0.self_attn.{part}_proj.weight");
        checkpoint.tensors.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, shape)| shape[0] = 4);
    }
    let (file, _) = checkpoint.convert(F32).unwrap();
    assert_eq!(numbers(&Gguf::parse(&file).unwrap(), "rope_freqs.weight"), [1.0, 8.0]);
}
