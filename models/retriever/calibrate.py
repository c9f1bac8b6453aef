"""Measures calibration.json with the `huatuo` program: the weight of BM25, and where a consultation must abstain.

usage: calibrate.py HUATUO_BINARY INDEX      (from the repository's root)

In-domain questions are those of the development set, `samples/dev_questions.jsonl`; off-topic ones are `off_topic.txt`.
The held-out questions are not looked at.
"""

import glob
import json
import subprocess
import sys

binary, index = sys.argv[1:3]
records = sorted(glob.glob("samples/records/*.jsonl"))
chosen = [json.loads(line) for line in open("samples/dev_questions.jsonl")]

for weight in (0.05, 0.1, 0.15, 0.22, 0.3, 0.4, 0.6):
    out = subprocess.run(
        [binary, "eval", "retrieval", "--json", "--lexical-weight", str(weight), "--queries", "samples/dev_questions.jsonl", "--records", *records],
        capture_output=True, text=True, check=True).stdout
    print(f"lexical_weight {weight}: hybrid R@1 {json.loads(out)['hybrid']['recall@1']:.4f}")


def confidence(question):
    out = subprocess.run([binary, "index", "search", index, question, "--top", "1", "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["results"][0]["score"]


inside = sorted(confidence(w["question"]) for w in chosen)
outside = sorted(confidence(line.strip()) for line in open("models/retriever/off_topic.txt") if line.strip())
for threshold in (x / 100 for x in range(20, 50, 2)):
    lost = sum(c < threshold for c in inside) / len(inside)
    let_in = sum(c >= threshold for c in outside) / len(outside)
    print(f"weak_below {threshold:.2f}: in-domain declined {lost:.3f}, off-topic answered {let_in:.3f}")
