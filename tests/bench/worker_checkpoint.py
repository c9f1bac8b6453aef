"""A Hugging Face checkpoint for benches of servers: Qwen2 in the shape of its 0.5B, random weights, a given tokenizer.

`worker_checkpoint.py --tokenizer tokenizer.json --out FOLDER [--dtype bfloat16]`: the same arguments write the same weights.
The vocabulary is the tokenizer's, which has to have `<|im_end|>` and `<|endoftext|>`. Greedy answers go on to the greatest
length that was asked for, in whole characters.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

SEED = 20
#: What Qwen2's weights are drawn with before training.
DEVIATION = 0.02
LAYERS, HIDDEN, FEED_FORWARD, CONTEXT = 24, 896, 4864, 4096
HEADS, KV_HEADS, HEAD = 14, 2, 64
END, PAD = "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The tensors by name; the head is the embedding."""
    layer = {
        "input_layernorm.weight": (HIDDEN,),
        "self_attn.q_proj.weight": (HEADS * HEAD, HIDDEN),
        "self_attn.q_proj.bias": (HEADS * HEAD,),
        "self_attn.k_proj.weight": (KV_HEADS * HEAD, HIDDEN),
        "self_attn.k_proj.bias": (KV_HEADS * HEAD,),
        "self_attn.v_proj.weight": (KV_HEADS * HEAD, HIDDEN),
        "self_attn.v_proj.bias": (KV_HEADS * HEAD,),
        "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD),
        "post_attention_layernorm.weight": (HIDDEN,),
        "mlp.gate_proj.weight": (FEED_FORWARD, HIDDEN),
        "mlp.up_proj.weight": (FEED_FORWARD, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, FEED_FORWARD),
    }
    layers = {f"model.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"model.embed_tokens.weight": (vocabulary, HIDDEN), **layers, "model.norm.weight": (HIDDEN,)}


def random_weights(vocabulary: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)

    def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        return torch.randn(shape, generator=generator).mul_(DEVIATION).add_(centre).to(dtype)

    return {name: draw(name, shape) for name, shape in shapes(vocabulary).items()}


def unwritable(tokenizer: Tokenizer) -> list[int]:
    """Tokens that end an answer or are parts of characters, which servers hold back until the rest comes."""
    texts = ((i, tokenizer.decode([i])) for i in range(tokenizer.get_vocab_size()))
    return [i for i, text in texts if not text or "\ufffd" in text]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    arguments = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    vocabulary = tokenizer.get_vocab_size()
    ends = {"eos_token_id": tokenizer.token_to_id(END), "pad_token_id": tokenizer.token_to_id(PAD)}
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "initializer_range": DEVIATION,
        "torch_dtype": arguments.dtype,
        **ends,
    }
    tokenizer_config = {
        # Transformers takes this class for Qwen2 whatever is said here; its tokens are the file's for text in NFC.
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.json")
    texts = {"config": config, "tokenizer_config": tokenizer_config, "generation_config": {"do_sample": False, **ends}}
    for name, value in texts.items():
        (arguments.out / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    weights = random_weights(vocabulary, getattr(torch, arguments.dtype))
    # Their logits are 0, and the greatest of thousands never is less.
    weights["model.embed_tokens.weight"][unwritable(tokenizer)] = 0
    save_file(weights, arguments.out / "model.safetensors", {"format": "pt"})
    print(f"{sum(w.numel() for w in weights.values()) / 1e6:.1f} M parameters, {vocabulary} tokens, {arguments.dtype}")


if __name__ == "__main__":
    main()
