"""Measures calibration.json with the `huatuo` program: the weight of BM25, and where a consultation must abstain.

usage: calibrate.py HUATUO_BINARY INDEX      (from the repository's root)

In-domain questions are training wordings that stand in no record; off-topic ones are `off_topic.txt`. The held-out
questions are not looked at.
"""

import glob
import json
import random
import subprocess
import sys
import tempfile

binary, index = sys.argv[1:3]
records = sorted(glob.glob("samples/records/*.jsonl"))
carried = {q for path in records for line in open(path) for q in json.loads(line)["questions"]}
wordings = [json.loads(line) for path in sorted(glob.glob("samples/questions/*.jsonl")) for line in open(path)]
wordings = [w for w in wordings if w["question"] not in carried]
chosen = random.Random(1).sample(wordings, 400)

with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as queries:
    queries.write("".join(json.dumps(w, ensure_ascii=False) + "\n" for w in chosen))
    queries.flush()
    for weight in (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012):
        out = subprocess.run(
            [binary, "eval", "retrieval", "--json", "--lexical-weight", str(weight), "--queries", queries.name, "--records", *records],
            capture_output=True, text=True, check=True).stdout
        print(f"lexical_weight {weight}: hybrid R@1 {json.loads(out)['hybrid']['recall@1']:.4f}")


def confidence(question):
    out = subprocess.run([binary, "index", "search", index, question, "--top", "1", "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["results"][0]["score"]


inside = sorted(confidence(w["question"]) for w in chosen[:120])
outside = sorted(confidence(line.strip()) for line in open("models/retriever/off_topic.txt") if line.strip())
for threshold in (x / 100 for x in range(20, 50, 2)):
    lost = sum(c < threshold for c in inside) / len(inside)
    let_in = sum(c >= threshold for c in outside) / len(outside)
    print(f"weak_below {threshold:.2f}: in-domain declined {lost:.3f}, off-topic answered {let_in:.3f}")
