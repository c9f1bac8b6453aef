//! Tensor names: where each tensor of a GGUF file stands in a published checkpoint.

use std::ops::Range;

use super::config::Config;
use crate::Family;

/// A tensor of the new file and where its rows come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Name in GGUF.
    pub target: String,
    /// Name in the checkpoint.
    pub source: String,
    /// Shape of the whole tensor in the checkpoint.
    pub shape: Vec<usize>,
    /// Rows that are taken; the whole of a vector is `0..1`.
    pub rows: Range<usize>,
    /// What is done with them.
    pub change: Change,
}

/// What is done with the rows of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// In each head of this many rows, the two halves are interleaved, so that rotary pairs are neighbours.
    Interleaved(usize),
    /// Each row is divided by its length.
    Normalised,
}

/// A symbolic size.
#[derive(Clone, Copy)]
enum Size {
    Vocabulary,
    Hidden,
    FeedForward,
    GateUp,
    Query,
    Kv,
    Head,
    /// Queries, keys and values behind one another.
    Qkv,
}
use Size::{FeedForward, GateUp, Head, Hidden, Kv, Qkv, Query, Vocabulary};

/// Which rows of a tensor.
#[derive(Clone, Copy)]
enum Part {
    All,
    Queries,
    Keys,
    Values,
}

type Row = (&'static str, &'static str, &'static [Size], Part);

/// Tensors of a block, `source`, `target`, shape in the source, part; Llama, Qwen2 and Qwen3.
const SEPARATE: &[Row] = &[
    ("input_layernorm.weight", "attn_norm.weight", &[Hidden], Part::All),
    ("self_attn.q_proj.weight", "attn_q.weight", &[Query, Hidden], Part::Queries),
    ("self_attn.k_proj.weight", "attn_k.weight", &[Kv, Hidden], Part::Keys),
    ("self_attn.v_proj.weight", "attn_v.weight", &[Kv, Hidden], Part::All),
    ("self_attn.o_proj.weight", "attn_output.weight", &[Hidden, Query], Part::All),
    ("post_attention_layernorm.weight", "ffn_norm.weight", &[Hidden], Part::All),
    ("mlp.gate_proj.weight", "ffn_gate.weight", &[FeedForward, Hidden], Part::All),
    ("mlp.up_proj.weight", "ffn_up.weight", &[FeedForward, Hidden], Part::All),
    ("mlp.down_proj.weight", "ffn_down.weight", &[Hidden, FeedForward], Part::All),
];
const QWEN2_BIASES: &[Row] = &[
    ("self_attn.q_proj.bias", "attn_q.bias", &[Query], Part::All),
    ("self_attn.k_proj.bias", "attn_k.bias", &[Kv], Part::All),
    ("self_attn.v_proj.bias", "attn_v.bias", &[Kv], Part::All),
];
const QWEN3_NORMS: &[Row] = &[
    ("self_attn.q_norm.weight", "attn_q_norm.weight", &[Head], Part::All),
    ("self_attn.k_norm.weight", "attn_k_norm.weight", &[Head], Part::All),
];
const BAICHUAN: &[Row] = &[
    ("input_layernorm.weight", "attn_norm.weight", &[Hidden], Part::All),
    ("self_attn.W_pack.weight", "attn_q.weight", &[Qkv, Hidden], Part::Queries),
    ("self_attn.W_pack.weight", "attn_k.weight", &[Qkv, Hidden], Part::Keys),
    ("self_attn.W_pack.weight", "attn_v.weight", &[Qkv, Hidden], Part::Values),
    ("self_attn.o_proj.weight", "attn_output.weight", &[Hidden, Query], Part::All),
    ("post_attention_layernorm.weight", "ffn_norm.weight", &[Hidden], Part::All),
    ("mlp.gate_proj.weight", "ffn_gate.weight", &[FeedForward, Hidden], Part::All),
    ("mlp.up_proj.weight", "ffn_up.weight", &[FeedForward, Hidden], Part::All),
    ("mlp.down_proj.weight", "ffn_down.weight", &[Hidden, FeedForward], Part::All),
];
const CHATGLM: &[Row] = &[
    ("input_layernorm.weight", "attn_norm.weight", &[Hidden], Part::All),
    ("self_attention.query_key_value.weight", "attn_qkv.weight", &[Qkv, Hidden], Part::All),
    ("self_attention.query_key_value.bias", "attn_qkv.bias", &[Qkv], Part::All),
    ("self_attention.dense.weight", "attn_output.weight", &[Hidden, Query], Part::All),
    ("post_attention_layernorm.weight", "ffn_norm.weight", &[Hidden], Part::All),
    ("mlp.dense_h_to_4h.weight", "ffn_up.weight", &[GateUp, Hidden], Part::All),
    ("mlp.dense_4h_to_h.weight", "ffn_down.weight", &[Hidden, FeedForward], Part::All),
];

/// Names outside the blocks: prefix of a block, embedding, last norm, output head.
struct Frame {
    block: &'static str,
    embedding: &'static str,
    norm: &'static str,
    head: &'static str,
}

const LLAMA_FRAME: Frame = Frame {
    block: "model.layers",
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    head: "lm_head.weight",
};
const CHATGLM_FRAME: Frame = Frame {
    block: "transformer.encoder.layers",
    embedding: "transformer.embedding.word_embeddings.weight",
    norm: "transformer.encoder.final_layernorm.weight",
    head: "transformer.output_layer.weight",
};

/// Name of the output head in a family's checkpoints, which may stand in the file of a model that ties it.
pub fn head_name(family: Family) -> &'static str {
    frame(family).head
}

/// Whether a tensor holds nothing that the description doesn't say: rotary frequencies.
pub fn is_redundant(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.ends_with("rotary_pos_emb.inv_freq")
}

/// Every tensor of the new file, in its order.
pub fn placements(config: &Config) -> Vec<Placement> {
    let (frame, blocks) = (frame(config.family), blocks(config.family));
    let mut all = vec![place(config, frame.embedding, "token_embd.weight", &[Vocabulary, Hidden], Part::All)];
    for i in 0..config.layers {
        for (source, target, shape, part) in blocks.iter().copied().flatten() {
            let (source, target) = (format!("{}.{i}.{source}", frame.block), format!("blk.{i}.{target}"));
            all.push(place(config, &source, &target, shape, *part));
        }
    }
    all.push(place(config, frame.norm, "output_norm.weight", &[Hidden], Part::All));
    if !config.tied {
        let mut head = place(config, frame.head, "output.weight", &[Vocabulary, Hidden], Part::All);
        if config.normalises_head() {
            head.change = Change::Normalised;
        }
        all.push(head);
    }
    all
}

fn frame(family: Family) -> &'static Frame {
    if family == Family::ChatGlm { &CHATGLM_FRAME } else { &LLAMA_FRAME }
}

fn blocks(family: Family) -> [&'static [Row]; 2] {
    match family {
        Family::Llama => [SEPARATE, &[]],
        Family::Qwen2 => [SEPARATE, QWEN2_BIASES],
        Family::Qwen3 => [SEPARATE, QWEN3_NORMS],
        Family::Baichuan => [BAICHUAN, &[]],
        Family::ChatGlm => [CHATGLM, &[]],
    }
}

fn place(config: &Config, source: &str, target: &str, shape: &[Size], part: Part) -> Placement {
    let (query, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let size = |size: &Size| match size {
        Vocabulary => config.vocabulary,
        Hidden => config.hidden,
        FeedForward => config.feed_forward,
        GateUp => 2 * config.feed_forward,
        Query => query,
        Kv => kv,
        Head => config.head_dim,
        Qkv => query + 2 * kv,
    };
    let is_packed = matches!(shape, [Qkv, _]);
    let shape: Vec<usize> = shape.iter().map(size).collect();
    let all = if shape.len() == 1 { 1 } else { shape[0] };
    let rows = match part {
        Part::Queries if is_packed => 0..query,
        Part::Keys if is_packed => query..query + kv,
        Part::Values => query + kv..query + 2 * kv,
        _ => 0..all,
    };
    let change = match part {
        Part::Queries | Part::Keys if has_neighbour_pairs(config.family) => Change::Interleaved(config.head_dim),
        _ => Change::None,
    };
    Placement { target: target.to_owned(), source: source.to_owned(), shape, rows, change }
}

/// Families whose checkpoints pair the halves of a head, while their GGUF files pair neighbours.
fn has_neighbour_pairs(family: Family) -> bool {
    matches!(family, Family::Llama | Family::Baichuan)
}
