"""Prefill and decode on this machine: this project beside llama.cpp, same GGUF files, in turn.

Run by `cargo xtask bench native-cpu`, which sets HUATUO (our binary) and HUATUO_BENCH (the models' folder).
"""

import json
import os
import statistics
import subprocess
from pathlib import Path

from llama_cpp_speed import load, measure

PREFILL, DECODE, ROUNDS = 64, 32, 5
folder = Path(os.environ["HUATUO_BENCH"])


def ours(path, threads):
    out = subprocess.run(
        [os.environ["HUATUO"], "speed", path, "--threads", str(threads), "--prefill", str(PREFILL),
         "--decode", str(DECODE), "--rounds", "1", "--json"], check=True, capture_output=True, text=True).stdout
    row = json.loads(out)
    return row["prefill"][0], row["decode"][0], row["device"]


def show(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


table = []
print(f"{PREFILL} tokens prefill, {DECODE} decode, {ROUNDS} rounds in turn; tokens/s, median (min–max)")
for path in (folder / f"synthetic-{name}.gguf" for name in ("Q4_0", "Q4_K", "Q8_0")):
    for threads in (1, 2):
        model = load(path, threads)
        measure(model, PREFILL, DECODE)  # warms up
        rounds = [(ours(path, threads), measure(model, PREFILL, DECODE)) for _ in range(ROUNDS)]
        for index, what in enumerate(("prefill", "decode")):
            mine, theirs = [r[0][index] for r in rounds], [r[1][index] for r in rounds]
            ratio = [a / b for a, b in zip(mine, theirs)]
            name = path.stem.removeprefix("synthetic-")
            print(f"{name} {threads} threads {what:8} ours {show(mine)}  llama.cpp {show(theirs)}  ratio "
                  f"{statistics.median(ratio):.2f} ({min(ratio):.2f}–{max(ratio):.2f})", flush=True)
            table.append({"model": name, "threads": threads, "what": what, "ours": mine, "llama_cpp": theirs})
        print(f"   instructions: {rounds[0][0][2]}")
        del model
(folder / "native-cpu.json").write_text(json.dumps(table, indent=2))
