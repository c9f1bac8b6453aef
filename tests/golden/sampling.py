"""Records what transformers' logits processors leave of random scores, in the order in which `generate` applies them.

usage: sampling.py      regenerates tests/golden/sampling.json

(from the repository's root; needs torch and transformers; no network)
"""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

OUT = Path(__file__).resolve().parent / "sampling.json"
VOCABULARY = 48
WRITTEN = [3, 17, 17, 40, 5, 9, 30, 3]
CASES = [
    {"temperature": 1.0},
    {"temperature": 0.7},
    {"temperature": 1.0, "repetition_penalty": 1.3},
    {"temperature": 1.0, "repetition_penalty": 0.8},
    {"temperature": 1.0, "top_k": 7},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.6, "repetition_penalty": 1.2, "top_k": 20, "top_p": 0.9, "min_p": 0.12},
    {"temperature": 0.5, "repetition_penalty": 1.1, "top_k": 10, "top_p": 0.95, "min_p": 0.02},
]


def processors(case: dict) -> LogitsProcessorList:
    """Those of `GenerationMixin._get_logits_processor`, in its order."""
    kinds = {
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
    }
    return LogitsProcessorList([kind(case[name]) for name, kind in kinds.items() if name in case])


def main() -> None:
    generator = torch.Generator().manual_seed(1)
    entries = []
    for case in CASES:
        logits = [round(x, 3) for x in (torch.randn(VOCABULARY, generator=generator) * 3).tolist()]
        left = processors(case)(torch.tensor([WRITTEN]), torch.tensor([logits]))
        probabilities = torch.softmax(left[0].double(), dim=-1).tolist()
        expected = {str(id): round(p, 7) for id, p in enumerate(probabilities) if p > 0}
        entries.append({"settings": case, "logits": logits, "written": WRITTEN, "probabilities": expected})
    OUT.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")


if __name__ == "__main__":
    main()
