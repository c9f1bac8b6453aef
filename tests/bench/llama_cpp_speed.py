"""Prefill and decode of llama.cpp, in tokens a second: `llama_cpp_speed.py MODEL THREADS PREFILL DECODE` prints JSON."""

import json
import sys
import time

from llama_cpp import Llama


def load(path, threads):
    return Llama(str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)


def measure(model, prefill, decode):
    model.reset()
    start = time.perf_counter()
    model.eval([i * 37 + 262 for i in range(prefill)])
    middle = time.perf_counter()
    for i in range(decode):
        model.eval([i * 11 + 300])
    end = time.perf_counter()
    return prefill / (middle - start), decode / (end - middle)


if __name__ == "__main__":
    path, threads, prefill, decode = sys.argv[1], *map(int, sys.argv[2:])
    model = load(path, threads)
    measure(model, prefill, decode)  # warms up
    print(json.dumps(dict(zip(("prefill", "decode"), measure(model, prefill, decode)))))
