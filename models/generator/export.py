"""Exports a trained checkpoint: GGUF in Q8_0 (norms and biases F32) and tokenizer.json beside it."""

import json
import shutil

import gguf
import numpy as np
from transformers import Qwen2ForCausalLM

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        for long, short in NAMES.items():
            if rest.startswith(long):
                return f"blk.{layer}.{short}{rest[len(long):]}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]


def write_gguf(model, tokenizer_json, path, quantization=gguf.GGMLQuantizationType.Q8_0, name="HuatuoGPT-R small", extractive=True):
    config = model.config
    w = gguf.GGUFWriter(str(path), "qwen2")
    w.add_name(name)
    w.add_license("apache-2.0")
    if extractive:
        w.add_string("huatuo.answering", "extractive")  # may only quote: see huatuo-generate's extractive.rs
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_rope_freq_base(config.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    spec = json.loads(tokenizer_json.read_text())
    tokens = dict(spec["model"]["vocab"])
    types = {}
    for added in spec["added_tokens"]:
        tokens[added["content"]] = added["id"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    ordered = sorted(tokens, key=tokens.get)
    assert [tokens[t] for t in ordered] == list(range(config.vocab_size)), "token ids are not contiguous"
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(ordered)
    w.add_token_types([types.get(i, gguf.TokenType.NORMAL) for i in range(len(ordered))])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]])
    w.add_eos_token_id(tokens["<|im_end|>"])
    w.add_pad_token_id(tokens["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if values.ndim == 1:
            w.add_tensor(gguf_name(key), values.astype(np.float32))
        else:
            w.add_tensor(gguf_name(key), gguf.quants.quantize(values, quantization), raw_dtype=quantization)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def export(checkpoint, tokenizer_json, folder):
    model = Qwen2ForCausalLM.from_pretrained(checkpoint)
    write_gguf(model, tokenizer_json, folder / "model.gguf")
    shutil.copy(tokenizer_json, folder / "tokenizer.json")
    print(f"exported {sum(p.numel() for p in model.parameters())} parameters, {(folder / 'model.gguf').stat().st_size} bytes")
