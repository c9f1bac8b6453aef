//! Sound files of a few kilobytes, for tests that change them. `examples/fuzz_seeds.rs` writes them out.

use huatuo_compute::Encoding;
use huatuo_generate::{GgufWriter, MetadataValue, TensorEntry};
use serde_json::{Map, Value, json};

use MetadataValue::{Float, Floats, Integers, Text, Texts, Unsigned};

/// A `tokenizer.json` of BPE that falls back to an unknown token.
pub const BYTE_TOKENIZER: &str = r#"{"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"a":1,"aa":2},"merges":["a a"]},"added_tokens":[{"id":3,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}}"#;

/// A `tokenizer.json` of WordPiece, as BERT's.
pub const WORD_TOKENIZER: &str = r###"{"version":"1.0","truncation":{"max_length":8,"strategy":"LongestFirst","stride":0,"direction":"Right"},"padding":{"strategy":{"Fixed":8},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},"added_tokens":[{"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[2],"tokens":["[SEP]"]}}},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[CLS]":1,"[SEP]":2,"[UNK]":3,"a":4,"##a":5,"头":6}}}"###;

/// Other kinds of models and steps that a `tokenizer.json` may name.
pub const OTHER_TOKENIZERS: [&str; 4] = [
    r#"{"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"fuse_unk":true,"ignore_merges":true,"end_of_word_suffix":"b","vocab":{"a":0,"b":1,"ab":2,"å":3},"merges":[["a","b"]]},"added_tokens":[{"id":4,"content":"<|im_end|>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":false}]}"#,
    r#"{"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"StripAccents"},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Nmt"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],"trim_offsets":true,"add_prefix_space":true},"model":{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<unk>",0.0],["▁",-1.5],["a",-2.0],["aa",-2.5],["头痛",-3.0]]}}"#,
    r#"{"normalizer":{"type":"NFD"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"MergedWithPrevious"},{"type":"CharDelimiterSplit","delimiter":"x"},{"type":"UnicodeScripts"},{"type":"FixedLength","length":3},{"type":"Whitespace"}]},"post_processor":{"type":"BertProcessing","sep":["a",1],"cls":["b",2]},"decoder":{"type":"BPEDecoder","suffix":"</w>"},"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"a":1,"b":2}}}"#,
    r#"{"normalizer":{"type":"ByteLevel"},"pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true}]},"decoder":{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true},"model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0,"a":1}}}"#,
];

/// Byte of all quantized weights and halves: scales that are small, numbers that are not zero.
const FILL: u8 = 0x11;

/// A model file of one block for each family, its weights in the encoding given where their rows are whole blocks.
pub fn gguf(family: &str, encoding: Encoding, tokenizer: Vec<(String, MetadataValue)>, tokens: usize) -> Vec<u8> {
    let (hidden, heads, head_dim, ff) = (encoding.block_len().max(4), 2, 2, 4);
    let layers = if family == "baichuan" && encoding == Encoding::F32 { 40 } else { 1 };
    let mut metadata = vec![("general.architecture".to_owned(), Text(family.to_owned()))];
    for (key, value) in [
        ("context_length", 256),
        ("embedding_length", hidden),
        ("feed_forward_length", ff),
        ("block_count", layers),
        ("attention.head_count", heads),
        ("attention.head_count_kv", 1),
        ("attention.key_length", head_dim),
        ("rope.dimension_count", head_dim),
    ] {
        metadata.push((format!("{family}.{key}"), Unsigned(value as u32)));
    }
    metadata.push((format!("{family}.attention.layer_norm_rms_epsilon"), Float(1e-5)));
    metadata.push((format!("{family}.rope.freq_base"), Float(10_000.0)));
    metadata.extend(tokenizer);
    let (query, kv) = (heads * head_dim, head_dim);
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![tokens, hidden])];
    if family == "llama" {
        tensors.push(("rope_freqs.weight".to_owned(), vec![head_dim / 2]));
        tensors.push(("output.weight".to_owned(), vec![tokens, hidden]));
    }
    for i in 0..layers {
        let mut add = |name: &str, shape: &[usize]| tensors.push((format!("blk.{i}.{name}"), shape.to_vec()));
        match family {
            "chatglm" => {
                add("attn_qkv.weight", &[query + 2 * kv, hidden]);
                add("attn_qkv.bias", &[query + 2 * kv]);
                add("ffn_up.weight", &[2 * ff, hidden]);
            }
            _ => {
                for (part, rows) in [("q", query), ("k", kv), ("v", kv)] {
                    add(&format!("attn_{part}.weight"), &[rows, hidden]);
                    if family == "qwen2" {
                        add(&format!("attn_{part}.bias"), &[rows]);
                    } else if family == "qwen3" && part != "v" {
                        add(&format!("attn_{part}_norm.weight"), &[head_dim]);
                    }
                }
                add("ffn_gate.weight", &[ff, hidden]);
                add("ffn_up.weight", &[ff, hidden]);
            }
        }
        add("attn_output.weight", &[hidden, query]);
        add("ffn_down.weight", &[hidden, ff]);
        add("attn_norm.weight", &[hidden]);
        add("ffn_norm.weight", &[hidden]);
    }
    tensors.push(("output_norm.weight".to_owned(), vec![hidden]));
    let entry = |(name, shape): (String, Vec<usize>)| {
        let whole = shape.len() == 2 && shape[1].is_multiple_of(encoding.block_len());
        TensorEntry { name, shape, encoding: if whole { encoding } else { Encoding::F32 } }
    };
    let entries: Vec<TensorEntry> = tensors.into_iter().map(entry).collect();
    let mut out = Vec::new();
    let mut writer = GgufWriter::begin(&mut out, &metadata, &entries).expect("memory can be written");
    for entry in &entries {
        let bytes = match entry.encoding {
            Encoding::F32 => numbers(entry.bytes() / 4),
            _ => vec![FILL; entry.bytes()],
        };
        writer.write(&bytes).expect("memory can be written");
    }
    writer.finish().expect("memory can be written");
    out
}

/// Numbers between −0.3 and 0.3.
fn numbers(len: usize) -> Vec<u8> {
    (0..len).flat_map(|i| ((i * 5 % 7) as f32 / 10.0 - 0.3).to_le_bytes()).collect()
}

/// A SentencePiece vocabulary as GGUF metadata, with its number of tokens.
pub fn sentence_piece() -> (Vec<(String, MetadataValue)>, usize) {
    let tokens = ["<unk>", "<s>", "</s>", "▁", "a", "▁a", "aa", "头", "痛", "头痛", "[", "1", "]", "<reserved_106>"];
    let kinds = tokens.map(|token| match token {
        "<unk>" => 2,
        "<s>" | "</s>" => 3,
        "<reserved_106>" => 4,
        "aa" => 5,
        _ => 1,
    });
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    (tokenizer("llama", &tokens.map(str::to_owned), kinds.to_vec(), ("ggml.scores", Floats(scores))), tokens.len())
}

/// A byte-level vocabulary as GGUF metadata, with its number of tokens.
pub fn byte_level() -> (Vec<(String, MetadataValue)>, usize) {
    // GPT-2's alphabet: printable bytes stand for themselves, the others for the characters from 256 on.
    let is_printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printable = (0..256).filter(|byte| is_printable(*byte));
    let letters = printable.chain(256..256 + (0..256).filter(|byte| !is_printable(*byte)).count() as u32);
    let mut tokens: Vec<String> = letters.filter_map(char::from_u32).map(String::from).collect();
    let mut kinds = vec![1; tokens.len()];
    tokens.extend(["aa", "aaa", "<|im_start|>", "<|im_end|>", "<|endoftext|>"].map(str::to_owned));
    kinds.extend([1, 1, 3, 3, 3]);
    let merges = Texts(["a a", "aa a"].map(str::to_owned).to_vec());
    (tokenizer("gpt2", &tokens, kinds, ("ggml.merges", merges)), tokens.len())
}

fn tokenizer(
    model: &str,
    tokens: &[String],
    kinds: Vec<i32>,
    (key, value): (&str, MetadataValue),
) -> Vec<(String, MetadataValue)> {
    let keys = [
        ("ggml.model", Text(model.to_owned())),
        ("ggml.tokens", Texts(tokens.to_vec())),
        ("ggml.token_type", Integers(kinds)),
        (key, value),
        ("ggml.eos_token_id", Unsigned(2)),
        ("ggml.bos_token_id", Unsigned(1)),
    ];
    keys.map(|(key, value)| (format!("tokenizer.{key}"), value)).to_vec()
}

/// SentencePiece's own file: BPE without a dummy prefix.
pub fn sentence_piece_model() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (text, score, kind) in [("<unk>", 0f32, 2), ("<s>", 0.0, 3), ("▁a", -1.0, 1), ("头痛", -2.0, 4)] {
        bytes.extend([0x0a, text.len() as u8 + 9, 0x0a, text.len() as u8]);
        bytes.extend(text.bytes());
        bytes.push(0x15);
        bytes.extend(score.to_le_bytes());
        bytes.extend([0x18, kind]);
    }
    bytes.extend(b"\x12\x02\x18\x02\x1a\x04\x18\x00\x20\x00");
    bytes
}

/// `config.json` and weights of a checkpoint of one block, its embedding of `rows` rows.
pub fn checkpoint(model_type: &str, rows: usize) -> (String, Vec<u8>) {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16, "vocab_size": rows,
        "eos_token_id": 2, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    });
    let block: &[(&str, &[usize])] = match model_type {
        "chatglm" => &[
            ("input_layernorm.weight", &[4]),
            ("self_attention.query_key_value.weight", &[12, 4]),
            ("self_attention.query_key_value.bias", &[12]),
            ("self_attention.dense.weight", &[4, 4]),
            ("post_attention_layernorm.weight", &[4]),
            ("mlp.dense_h_to_4h.weight", &[8, 4]),
            ("mlp.dense_4h_to_h.weight", &[4, 4]),
        ],
        "baichuan" => &[
            ("input_layernorm.weight", &[4]),
            ("self_attn.W_pack.weight", &[12, 4]),
            ("self_attn.o_proj.weight", &[4, 4]),
            ("post_attention_layernorm.weight", &[4]),
            ("mlp.gate_proj.weight", &[4, 4]),
            ("mlp.up_proj.weight", &[4, 4]),
            ("mlp.down_proj.weight", &[4, 4]),
        ],
        _ => &[
            ("input_layernorm.weight", &[4]),
            ("self_attn.q_proj.weight", &[4, 4]),
            ("self_attn.k_proj.weight", &[4, 4]),
            ("self_attn.v_proj.weight", &[4, 4]),
            ("self_attn.o_proj.weight", &[4, 4]),
            ("post_attention_layernorm.weight", &[4]),
            ("mlp.gate_proj.weight", &[4, 4]),
            ("mlp.up_proj.weight", &[4, 4]),
            ("mlp.down_proj.weight", &[4, 4]),
        ],
    };
    let (blocks, embedding, norm, head) = match model_type {
        "chatglm" => (
            "transformer.encoder.layers.0",
            "transformer.embedding.word_embeddings.weight",
            "transformer.encoder.final_layernorm.weight",
            "transformer.output_layer.weight",
        ),
        _ => ("model.layers.0", "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
    };
    if model_type == "chatglm" {
        for (key, value) in [
            ("num_layers", 1),
            ("ffn_hidden_size", 4),
            ("kv_channels", 2),
            ("padded_vocab_size", rows),
            ("seq_length", 16),
        ] {
            config[key] = json!(value);
        }
    }
    let mut tensors = vec![(embedding.to_owned(), vec![rows, 4]), (norm.to_owned(), vec![4])];
    tensors.push((head.to_owned(), vec![rows, 4]));
    tensors.extend(block.iter().map(|(name, shape)| (format!("{blocks}.{name}"), shape.to_vec())));
    match model_type {
        "qwen2" => tensors.extend(["q", "k", "v"].map(|p| (format!("{blocks}.self_attn.{p}_proj.bias"), vec![4]))),
        "qwen3" => tensors.extend(["q", "k"].map(|p| (format!("{blocks}.self_attn.{p}_norm.weight"), vec![2]))),
        _ => {}
    }
    (config.to_string(), safetensors(&tensors))
}

/// Settings and weights of an encoder of one block, its embedding of `rows` rows.
pub fn encoder(rows: usize) -> (String, Vec<u8>) {
    let config = json!({
        "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4,
        "max_position_embeddings": 16, "type_vocab_size": 1, "vocab_size": rows, "layer_norm_eps": 1e-12,
        "pooling_mode_mean_tokens": true, "max_seq_length": 8,
    });
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    for (name, table) in [("word", rows), ("position", 16), ("token_type", 1)] {
        tensors.push((format!("embeddings.{name}_embeddings.weight"), vec![table, 4]));
    }
    let layer = "encoder.layer.0";
    for part in ["attention.self.query", "attention.self.key", "attention.self.value"] {
        tensors.push((format!("{layer}.{part}.weight"), vec![4, 4]));
        tensors.push((format!("{layer}.{part}.bias"), vec![4]));
    }
    for part in ["attention.output.dense", "intermediate.dense", "output.dense"] {
        tensors.push((format!("{layer}.{part}.weight"), vec![4, 4]));
        tensors.push((format!("{layer}.{part}.bias"), vec![4]));
    }
    for norm in [format!("{layer}.attention.output"), format!("{layer}.output"), "embeddings".to_owned()] {
        tensors.push((format!("{norm}.LayerNorm.weight"), vec![4]));
        tensors.push((format!("{norm}.LayerNorm.bias"), vec![4]));
    }
    (config.to_string(), safetensors(&tensors))
}

fn safetensors(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        data.extend(numbers(shape.iter().product()));
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
