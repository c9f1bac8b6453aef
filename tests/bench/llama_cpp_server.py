"""llama-cpp-python's server, without kernels that the processor or its host does not really have.

`llama_cpp_server.py --model FILE …`: the arguments are the server's own. Some virtual machines say that they have the instructions of
llama.cpp's repacked kernels and end the process at the first of them. A child process tries a prompt; where it is ended by a signal,
the server runs with weights as they are stored, and says so.
"""

import subprocess
import sys

import llama_cpp
import llama_cpp.llama_cpp as library
from llama_cpp.server.__main__ import main

TRY = "import sys, llama_cpp; llama_cpp.Llama(sys.argv[1], n_ctx=512, verbose=False)('头晕' * 64, max_tokens=1)"


def with_stored_weights() -> None:
    """Has every model of this process loaded without repacking."""
    usual = library.llama_model_default_params

    def parameters() -> library.llama_model_params:
        chosen = usual()
        chosen.use_extra_bufts = False
        return chosen

    for module in (library, llama_cpp):
        module.llama_model_default_params = parameters


if __name__ == "__main__":
    model = sys.argv[sys.argv.index("--model") + 1]
    tried = subprocess.run([sys.executable, "-c", TRY, model], stderr=subprocess.DEVNULL)
    if tried.returncode < 0:
        print(f"repacked kernels end by signal {-tried.returncode}: weights stay as they are stored", flush=True)
        with_stored_weights()
    main()
