"""Prefill and decode of llama.cpp's Vulkan backend, in tokens a second: `llama_cpp_gpu.py FOLDER MODEL…` prints a JSON line a model.

FOLDER holds the libraries of `@node-llama-cpp/linux-x64-vulkan` (npm), with links `libllama.so` and `libggml.so` to those whose
names say `vulkan`; `llama-cpp-python` of the same release of llama.cpp (0.3.36 for 0.5.0) calls them.
"""

import ctypes
import json
import os
import sys
import time

PREFILL, DECODE, ROUNDS = 512, 32, 3
find = ctypes.CDLL.__getattr__


def find_or_nothing(library, name):
    """The bindings name a function or two that the libraries lack, and that aren't called here."""
    try:
        return find(library, name)
    except AttributeError:
        if name.startswith("llama_"):
            return ctypes.CFUNCTYPE(None)()
        raise


def main(folder, paths):
    ctypes.CDLL.__getattr__ = find_or_nothing
    os.environ["LLAMA_CPP_LIB_PATH"] = folder
    import llama_cpp

    load = ctypes.CDLL(os.path.join(folder, "libggml.so")).ggml_backend_load_all_from_path
    load.argtypes = [ctypes.c_char_p]
    load(folder.encode())
    for path in paths:
        options = {"n_ctx": 1024, "n_batch": PREFILL, "n_ubatch": PREFILL, "n_gpu_layers": 999, "flash_attn": True}
        model = llama_cpp.Llama(path, verbose=False, **options)
        prefill, decode = [], []
        for _ in range(ROUNDS + 1):
            model.reset()
            start = time.perf_counter()
            model.eval([(i * 37 + 262) % 32000 for i in range(PREFILL)])
            llama_cpp.llama_synchronize(model.ctx)
            middle = time.perf_counter()
            for i in range(DECODE):
                model.eval([i * 11 + 300])
            llama_cpp.llama_synchronize(model.ctx)
            prefill.append(PREFILL / (middle - start))
            decode.append(DECODE / (time.perf_counter() - middle))
        # The first round compiles.
        print(json.dumps({"model": os.path.basename(path), "prefill": prefill[1:], "decode": decode[1:]}), flush=True)
        model.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
