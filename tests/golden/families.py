"""Writes a tiny random checkpoint of each decoder family, converts it with `huatuo model`, and records what PyTorch
computes with the same (dequantized) weights.

usage: families.py                    regenerates tests/golden/families and its part of decoder.json
       families.py interchange DIR    compares all families in all encodings with llama.cpp, both ways; works in DIR

(from the repository's root after `cargo build`; needs torch, transformers, sentencepiece, gguf, safetensors and
llama-cpp-python; no network)
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/families"
HUATUO = ROOT / "target/debug/huatuo"
VOCABULARY = 300
CONTEXT = 256
PROMPT = [(i * 37 + 5) % VOCABULARY for i in range(70)]
STEPS = 64
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
# Tolerances relative to the largest score, as decoder_parity.rs reads them: single precision throughout, keys and values
# in half precision, activations in 8 bits.
SINGLE, HALF, EIGHT_BIT = 1e-4, 1e-3, 0.03


@dataclass
class Shape:
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    llama3: bool = False
    alibi: bool = False
    tied: bool = False
    dtype: torch.dtype = torch.float32
    shards: int = 1
    theta: float = 10000.0
    pull: float = 2.0  # how much the head prefers, for each token, some other one


# Networks as published: tensor names, config.json, and PyTorch's own computation.


def llama_like(s, biases=False, norms=False):
    query, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    shapes = {"model.embed_tokens.weight": (VOCABULARY, s.hidden), "model.norm.weight": (s.hidden,)}
    if not s.tied:
        shapes["lm_head.weight"] = (VOCABULARY, s.hidden)
    for i in range(s.layers):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm.weight": (s.hidden,), at + "post_attention_layernorm.weight": (s.hidden,)}
        for name, rows in [("q", query), ("k", kv), ("v", kv)]:
            shapes[at + f"self_attn.{name}_proj.weight"] = (rows, s.hidden)
            if biases:
                shapes[at + f"self_attn.{name}_proj.bias"] = (rows,)
            if norms and name != "v":
                shapes[at + f"self_attn.{name}_norm.weight"] = (s.head_dim,)
        shapes[at + "self_attn.o_proj.weight"] = (s.hidden, query)
        shapes[at + "mlp.gate_proj.weight"] = (s.feed_forward, s.hidden)
        shapes[at + "mlp.up_proj.weight"] = (s.feed_forward, s.hidden)
        shapes[at + "mlp.down_proj.weight"] = (s.hidden, s.feed_forward)
    return shapes


def baichuan(s):
    shapes = llama_like(s)
    for i in range(s.layers):
        at = f"model.layers.{i}.self_attn."
        for name in "qkv":
            del shapes[at + f"{name}_proj.weight"]
        shapes[at + "W_pack.weight"] = (3 * s.hidden, s.hidden)
    return shapes


def chatglm(s):
    query, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    shapes = {
        "transformer.embedding.word_embeddings.weight": (VOCABULARY, s.hidden),
        "transformer.encoder.final_layernorm.weight": (s.hidden,),
        "transformer.output_layer.weight": (VOCABULARY, s.hidden),
    }
    for i in range(s.layers):
        at = f"transformer.encoder.layers.{i}."
        shapes |= {
            at + "input_layernorm.weight": (s.hidden,),
            at + "post_attention_layernorm.weight": (s.hidden,),
            at + "self_attention.query_key_value.weight": (query + 2 * kv, s.hidden),
            at + "self_attention.query_key_value.bias": (query + 2 * kv,),
            at + "self_attention.dense.weight": (s.hidden, query),
            at + "mlp.dense_h_to_4h.weight": (2 * s.feed_forward, s.hidden),
            at + "mlp.dense_4h_to_h.weight": (s.hidden, s.feed_forward),
        }
    return shapes


def config_json(family, s):
    if family == "chatglm":
        return {
            "model_type": "chatglm", "num_layers": s.layers, "hidden_size": s.hidden, "ffn_hidden_size": s.feed_forward,
            "num_attention_heads": s.heads, "multi_query_attention": True, "multi_query_group_num": s.kv_heads,
            "kv_channels": s.head_dim, "padded_vocab_size": VOCABULARY, "seq_length": CONTEXT, "add_bias_linear": False,
            "add_qkv_bias": True, "apply_residual_connection_post_layernorm": False, "post_layer_norm": True, "rmsnorm": True,
            "original_rope": True, "layernorm_epsilon": 1e-5, "tie_word_embeddings": False, "eos_token_id": 2, "pad_token_id": 0,
        }
    config = {
        "model_type": family, "num_hidden_layers": s.layers, "hidden_size": s.hidden, "intermediate_size": s.feed_forward,
        "num_attention_heads": s.heads, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": s.tied, "bos_token_id": 1, "eos_token_id": 2,
    }
    if family == "baichuan":
        return config | {"model_max_length": CONTEXT}
    config |= {
        "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim, "max_position_embeddings": CONTEXT, "rope_theta": s.theta,
    }
    if s.llama3:
        config["rope_scaling"] = LLAMA3
    return config


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def in_transformers(kind, s, state):
    config_of, model_of = (getattr(transformers, kind + suffix) for suffix in ("Config", "ForCausalLM"))
    rope = {"rope_type": "default"} if not s.llama3 else dict(LLAMA3)
    settings = {}
    if kind == "Glm":
        rope["partial_rotary_factor"] = 0.5
        settings = {"attention_bias": True, "rms_norm_eps": 1e-5, "pad_token_id": 0, "eos_token_id": 2}
    config = config_of(
        vocab_size=VOCABULARY, hidden_size=s.hidden, intermediate_size=s.feed_forward, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, tie_word_embeddings=s.tied,
        max_position_embeddings=CONTEXT, rope_parameters=rope | {"rope_theta": s.theta}, **({"rms_norm_eps": 1e-6} | settings),
    )
    model = model_of(config).eval()
    if s.tied:
        state = state | {"lm_head.weight": state["model.embed_tokens.weight"]}
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    return lambda ids: model(torch.tensor([ids]), use_cache=False).logits[0, -1]


def unpacked(state):
    """A Baichuan checkpoint in Llama's names."""
    split = {}
    for key, value in state.items():
        if "W_pack" in key:
            for name, part in zip("qkv", value.chunk(3)):
                split[key.replace("W_pack", f"{name}_proj")] = part
        else:
            split[key] = value
    return split


def as_glm(state):
    """A ChatGLM checkpoint in the names of transformers' GLM."""
    names = [
        ("transformer.embedding.word_embeddings", "model.embed_tokens"), ("transformer.encoder.final_layernorm", "model.norm"),
        ("transformer.output_layer", "lm_head"), ("transformer.encoder.layers", "model.layers"),
        ("self_attention.dense", "self_attn.o_proj"), ("mlp.dense_h_to_4h", "mlp.gate_up_proj"),
        ("mlp.dense_4h_to_h", "mlp.down_proj"),
    ]
    renamed = {}
    for key, value in state.items():
        for old, new in names:
            key = key.replace(old, new)
        if "query_key_value" in key:
            hidden = value.shape[0]
            query = state["transformer.encoder.layers.0.self_attention.dense.weight"].shape[1]
            kv = (hidden - query) // 2
            for name, part in zip("qkv", value.split([query, kv, kv])):
                renamed[key.replace("self_attention.query_key_value", f"self_attn.{name}_proj")] = part
        else:
            renamed[key] = value
    return renamed


def alibi_slopes(heads):
    """Press et al. 2022, also for numbers of heads that are no power of two."""
    def powers(n):
        start = 2.0 ** (-8.0 / n)
        return [start ** (i + 1) for i in range(n)]

    power = 2 ** int(np.floor(np.log2(heads)))
    return powers(power) + powers(2 * power)[0::2][: heads - power]


def baichuan_13b(s, state):
    """The large Baichuan: no rotary positions, linear biases."""
    state = {key: value.float() for key, value in state.items()}

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

    def forward(ids):
        n = len(ids)
        distance = torch.arange(n)[None, :] - torch.arange(n)[:, None]
        bias = torch.tensor(alibi_slopes(s.heads))[:, None, None] * distance
        bias = bias.masked_fill(distance > 0, float("-inf"))
        x = state["model.embed_tokens.weight"][ids]
        for i in range(s.layers):
            w = lambda name: state[f"model.layers.{i}.{name}.weight"]
            packed = norm(x, w("input_layernorm")) @ w("self_attn.W_pack").T
            q, k, v = (part.reshape(n, s.heads, s.head_dim).transpose(0, 1) for part in packed.chunk(3, dim=-1))
            scores = q @ k.transpose(1, 2) / s.head_dim**0.5 + bias
            attended = (scores.softmax(-1) @ v).transpose(0, 1).reshape(n, -1)
            x = x + attended @ w("self_attn.o_proj").T
            y = norm(x, w("post_attention_layernorm"))
            x = x + (torch.nn.functional.silu(y @ w("mlp.gate_proj").T) * (y @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
        return norm(x[-1], state["model.norm.weight"]) @ state["lm_head.weight"].T

    return forward


FAMILIES = {
    "llama": (llama_like, lambda s, state: in_transformers("Llama", s, state)),
    "baichuan": (
        baichuan, lambda s, state: baichuan_13b(s, state) if s.alibi else in_transformers("Llama", s, unpacked(state)),
    ),
    "chatglm": (chatglm, lambda s, state: in_transformers("Glm", s, as_glm(state))),
    "qwen2": (lambda s: llama_like(s, biases=True), lambda s, state: in_transformers("Qwen2", s, state)),
    "qwen3": (lambda s: llama_like(s, norms=True), lambda s, state: in_transformers("Qwen3", s, state)),
}


def random_state(shapes, s, seed):
    """Weights whose head prefers, for each token, some other one, so that there are few near ties."""
    torch.manual_seed(seed)
    depth = s.layers**-0.5
    state = {}
    for key, shape in shapes.items():
        if len(shape) == 1:
            state[key] = torch.randn(shape) * 0.1 + (0.0 if key.endswith("bias") else 1.0)
        else:
            out = any(part in key for part in ("o_proj", "down_proj", "dense.weight", "dense_4h_to_h"))
            state[key] = torch.randn(shape) * (depth if out else 1.0) * shape[1] ** -0.5 * 1.5
    embedding = next(key for key in shapes if "embed" in key)
    state[embedding] = torch.randn(shapes[embedding])
    head = next((key for key in shapes if "lm_head" in key or "output_layer" in key), None)
    if head:
        state[head] = state[head] + state[embedding][torch.randperm(VOCABULARY)] * shapes[head][1] ** -0.5 * s.pull
    return {key: value.to(s.dtype).contiguous() for key, value in state.items()}


@torch.no_grad()
def greedy(forward, prompt=PROMPT):
    """Scores after the prompt, greedy tokens, and the smallest lead of a token, relative to the largest score."""
    ids, first, lead = list(prompt), None, 1.0
    for _ in range(STEPS):
        logits = forward(ids)
        first = logits if first is None else first
        best = logits.topk(2).values
        lead = min(lead, float((best[0] - best[1]) / logits.abs().max()))
        ids.append(int(logits.argmax()))
    return first, ids[len(prompt):], lead


def clear_states(family, s, lead):
    """Random weights, those first whose greedy tokens all lead by more than asked for."""
    shapes, oracle = FAMILIES[family][0](s), FAMILIES[family][1]
    for seed in range(2000):
        state = random_state(shapes, s, seed)
        _, tokens, least = greedy(oracle(s, state))
        if least > lead and len(set(tokens)) > 8:
            print(f"{family} {s.layers}×{s.hidden}: seed {seed}, least lead {least:.4f}", flush=True)
            yield state


# Checkpoint folders.


def write_byte_level(folder, three_digits):
    alphabet = sorted(ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(alphabet + [alphabet[65] + alphabet[66]])}
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 290 + i, "content": mark} | flags for i, mark in enumerate(marks)]
    pattern = {"Regex": SPLIT % ("{1,3}" if three_digits else "")}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    spec = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": [[alphabet[65], alphabet[66]]], "byte_fallback": False},
    }
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    settings = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "chat_template": CHATML, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_sentencepiece(folder):
    text = OUT.parent / "sentences.txt"
    text.write_text("发烧怎么办\n头痛怎么办\n头痛发烧 多喝水\n感冒发烧 头痛\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=288, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, minloglevel=2,
        hard_vocab_limit=False, num_threads=1,
    )
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_checkpoint(folder, family, s, state):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(family, s), indent=1) + "\n")
    if family in ("qwen2", "qwen3") or s.llama3:
        write_byte_level(folder, three_digits=s.llama3)
    else:
        write_sentencepiece(folder)
    if s.shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    keys, index = list(state), {}
    for n in range(s.shards):
        name = f"model-{n + 1:05}-of-{s.shards:05}.safetensors"
        part = keys[n :: s.shards]
        save_file({key: state[key] for key in part}, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, indent=1))


def huatuo(*arguments):
    subprocess.run([str(HUATUO), "model", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def published(path, family, s):
    """A GGUF file's weights, dequantized, under the names they were published with."""
    tensors = {}
    for t in gguf.GGUFReader(str(path)).tensors:
        numbers = gguf.quants.dequantize(t.data, t.tensor_type)
        tensors[t.name] = torch.from_numpy(np.array(numbers, dtype=np.float32).reshape(t.shape[::-1].tolist()))

    def halves(weight):
        """Rows of each head with rotary pairs in halves again."""
        return weight.reshape(-1, s.head_dim // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    names = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    frame, prefix = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}, "model.layers"
    if family == "chatglm":
        names |= {
            "attn_qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense", "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        }
        frame = {
            "token_embd": "transformer.embedding.word_embeddings", "output_norm": "transformer.encoder.final_layernorm",
            "output": "transformer.output_layer",
        }
        prefix = "transformer.encoder.layers"
    state = {}
    for name, value in tensors.items():
        stem, kind = name.rsplit(".", 1)
        if stem == "rope_freqs":
            continue
        if not stem.startswith("blk."):
            state[f"{frame[stem]}.{kind}"] = value
            continue
        _, layer, part = stem.split(".")
        if family in ("llama", "baichuan") and part in ("attn_q", "attn_k"):
            value = halves(value)
        state[f"{prefix}.{layer}.{names[part]}.{kind}"] = value
    if family == "baichuan":
        for i in range(s.layers):
            parts = [state.pop(f"model.layers.{i}.self_attn.{name}_proj.weight") for name in "qkv"]
            state[f"model.layers.{i}.self_attn.W_pack.weight"] = torch.cat(parts)
    return state


def golden(path, family, s, tolerance):
    logits, tokens, lead = greedy(FAMILIES[family][1](s, published(path, family, s)))
    # Each of two scores may be off by the tolerance.
    same = lead > 2 * tolerance
    print(f"  {path.name}: least lead {lead:.4f}{'' if same else ', tokens not compared'}", flush=True)
    model = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return {
        "model": str(model), "prompt": PROMPT, "logits": [round(float(x), 6) for x in logits], "tokens": tokens,
        "tolerance": tolerance, "same_tokens": same,
    }


TINY = {
    "llama": ("llama", Shape(2, 32, 48, 4, 2, 8)),
    "llama3": ("llama", Shape(2, 32, 48, 4, 2, 8, llama3=True, theta=100.0, dtype=torch.bfloat16, shards=2)),
    "baichuan": ("baichuan", Shape(2, 32, 48, 4, 4, 8)),
    "baichuan-alibi": ("baichuan", Shape(40, 24, 16, 6, 6, 4, alibi=True)),
    "chatglm": ("chatglm", Shape(2, 32, 48, 4, 2, 8)),
    "qwen2": ("qwen2", Shape(2, 32, 48, 4, 2, 8, theta=1e6)),
    "qwen3": ("qwen3", Shape(2, 32, 48, 4, 2, 16, theta=1e6, tied=True, dtype=torch.float16)),
}
LLAMA_CPP = "llama-cpp-Q4_K_M"
# Wide enough for blocks of 256.
WIDE = {
    "llama": (Shape(1, 256, 256, 4, 1, 64), ["Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", LLAMA_CPP]),
    "baichuan": (Shape(1, 256, 256, 4, 4, 64), ["Q4_K_M"]),
    "chatglm": (Shape(1, 256, 256, 4, 1, 64), ["Q4_K_M"]),
    "qwen2": (Shape(1, 256, 256, 4, 1, 64, theta=1e6), ["Q4_K_M"]),
    "qwen3": (Shape(1, 256, 256, 4, 1, 64, theta=1e6), ["Q4_K_M"]),
}


def main():
    goldens = []
    for name, (family, s) in TINY.items():
        folder, path = OUT / name, OUT / f"{name}-f32.gguf"
        write_checkpoint(folder, family, s, next(clear_states(family, s, 0.003)))
        huatuo("convert", folder, path, "--encoding", "F32")
        goldens.append(golden(path, family, s, SINGLE))
    scratch = OUT / "scratch"
    for family, (s, encodings) in WIDE.items():
        for state in clear_states(family, s, 0.08):
            write_checkpoint(scratch / family, family, s, state)
            entries = []
            for encoding in encodings:
                path = OUT / f"{family}-{encoding.lower()}.gguf"
                if encoding == LLAMA_CPP:
                    huatuo("convert", scratch / family, scratch / "f32.gguf", "--encoding", "F32")
                    llama_cpp_quantize(scratch / "f32.gguf", path, LLAMA_CPP_TYPES["Q4_K_M"])
                else:
                    huatuo("convert", scratch / family, path, "--encoding", encoding)
                entries.append(golden(path, family, s, EIGHT_BIT))
            if all(entry["same_tokens"] for entry in entries):
                goldens += entries
                break
    subprocess.run(["rm", "-r", str(scratch)], check=True)
    file = OUT.parent / "decoder.json"
    others = [entry for entry in json.loads(file.read_text()) if "/families/" not in entry["model"]]
    file.write_text(json.dumps(others + goldens) + "\n")


# Interchange with llama.cpp, which knows a Baichuan by its number of layers: 32 are rotary, 40 have linear biases.
INTERCHANGE = {
    "llama": ("llama", Shape(1, 256, 256, 4, 1, 64)),
    "llama3": ("llama", Shape(1, 256, 256, 4, 1, 64, llama3=True, theta=100.0)),
    "baichuan": ("baichuan", Shape(32, 256, 256, 4, 4, 64)),
    "baichuan-alibi": ("baichuan", Shape(40, 256, 256, 8, 8, 32, alibi=True)),
    "chatglm": ("chatglm", Shape(1, 256, 256, 4, 1, 64)),
    "qwen2": ("qwen2", Shape(1, 256, 256, 4, 1, 64, theta=1e6)),
    "qwen3": ("qwen3", Shape(1, 256, 256, 4, 1, 64, theta=1e6)),
}
ENCODINGS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M"]
LLAMA_CPP_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}


def llama_cpp_greedy(path):
    """llama.cpp's greedy tokens and its scores after the prompt, with keys and values in single precision."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=2, n_gpu_layers=0, verbose=False, type_k=0, type_v=0,
    )

    def scores():
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1), shape=(VOCABULARY,)).copy()

    model.eval(PROMPT)
    first, tokens = scores(), []
    while len(tokens) < STEPS:
        tokens.append(int(scores().argmax()))
        model.eval(tokens[-1:])
    model.close()
    return first, tokens


def llama_cpp_quantize(path, out, kind):
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = kind, 2
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), parameters) == 0


def interchange(folder):
    """Three-way comparison; what the decoder computes is checked by decoder_parity.rs on the file written here."""
    folder.mkdir(parents=True, exist_ok=True)
    goldens = []

    def compare(path, family, s, tolerance, by):
        entry = golden(path, family, s, tolerance)
        scores, tokens = llama_cpp_greedy(path)
        wanted = np.array(entry["logits"])
        same = sum(1 for a, b in zip(tokens, entry["tokens"]) if a == b)
        off = np.abs(scores - wanted).max() / np.abs(wanted).max()
        print(f"{path.stem:28} by {by:9}: llama.cpp off by {off:.5f}, {same} of {STEPS} tokens equal PyTorch's", flush=True)
        # The decoder is held to llama.cpp's tokens where both oracles agree.
        goldens.append(entry | {"same_tokens": same == STEPS})

    for name, (family, s) in INTERCHANGE.items():
        s = replace(s, pull=5.0)
        eight_bit = EIGHT_BIT * (3 if s.layers > 2 else 1)  # errors of roundings add up over dozens of layers
        write_checkpoint(folder / name, family, s, next(clear_states(family, s, 0.15)))
        for encoding in ENCODINGS:
            path = folder / f"{name}-{encoding.lower()}.gguf"
            huatuo("convert", folder / name, path, "--encoding", encoding)
            tolerance = {"F32": SINGLE, "F16": HALF, "BF16": HALF}.get(encoding, eight_bit)
            compare(path, family, s, tolerance, "huatuo")
        for encoding, kind in LLAMA_CPP_TYPES.items():
            path = folder / f"{name}-llama-cpp-{encoding.lower()}.gguf"
            llama_cpp_quantize(folder / f"{name}-f32.gguf", path, kind)
            compare(path, family, s, eight_bit, "llama.cpp")
        (folder / "decoder.json").write_text(json.dumps(goldens))
    print(f"now: HUATUO_GOLDEN={folder}/decoder.json cargo test -p huatuo-tests --test decoder_parity")


if __name__ == "__main__":
    interchange(Path(sys.argv[2]).resolve()) if sys.argv[1:2] == ["interchange"] else main()
