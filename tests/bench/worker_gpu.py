"""The worker on a graphics card, and its decoder alone: `worker_gpu.py --huatuo BINARY --worker BINARY MODEL`.

Tokens a second of all texts together, for 1, 8 and 32 of them: of the decoder, which writes behind prompts of 128 tokens that
were read (`huatuo speed --texts`), and of clients that stream answers (worker_load.py, short prompts, 256 tokens an answer).
Beside them what the card's memory allows: its copy bandwidth, measured by the same program, over the bytes of the file, times
the texts, since a step reads each weight once for all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from worker import KEY, Server, free_port, load, running

TEXTS = (1, 8, 32)
PROMPT_TOKENS, ANSWER_TOKENS = 32, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--huatuo", type=Path, required=True)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()

    speed = [str(arguments.huatuo), "speed", "--device", "gpu", "--json", "--prefill", "128", "--decode", "64"]
    speed += ["--rounds", "3", "--texts", ",".join(map(str, TEXTS)), str(arguments.model)]
    alone = json.loads(subprocess.run(speed, check=True, stdout=subprocess.PIPE).stdout)
    bandwidth, size = alone["copy_bytes_per_second"], alone["bytes"]
    print(f"   {arguments.model.stem} on {alone['device']}: {size / 1e9:.2f} GB, copies at {bandwidth / 1e12:.2f} TB/s, "
          f"loaded in {alone['load_ms'] / 1e3:.1f} s, tuned in {alone['tune_ms'] / 1e3:.1f} s; "
          f"prefill {median(alone['prefill']):.0f}, one text by itself {median(alone['decode']):.1f} tokens/s", flush=True)

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "worker.toml"
        settings.write_text(f'[[models]]\nname = "bench"\npath = {json.dumps(str(arguments.model))}\ndevice = "gpu"\n')
        command = [str(arguments.worker), "--config", str(settings), "--listen", f"127.0.0.1:{port}"]
        environment = (("HUATUO_WORKER_API_KEYS", json.dumps([KEY])),)
        server = Server("huatuo", command, port, environment=environment, clients=TEXTS)
        log, out = Path(folder) / "worker.log", Path(folder) / "load.json"
        try:
            with running(server, log):
                extra = ["--prompt-tokens", str(PROMPT_TOKENS), "--max-tokens", str(ANSWER_TOKENS)]
                extra += ["--requests-per-client", "2", "--clients", *map(str, TEXTS)]
                load(server, 1, out, "--clients", "8", "32", "--requests-per-client", "1")  # kernels are compiled
                rows = load(server, 2, out, *extra)
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
            raise
    for texts, row in zip(TEXTS, rows):
        limit = texts * bandwidth / size
        together = median(alone["together"][str(texts)])
        first = row["ttft_ms"] or {"p50": float("nan"), "p99": float("nan")}
        rate = row["tokens_per_second"]
        print(f"   {arguments.model.stem}, {texts} texts: decoder {together:.0f} tokens/s ({100 * together / limit:.0f} %), "
              f"worker {rate:.0f} tokens/s ({100 * rate / limit:.0f} %), limit {limit:.0f}; first token "
              f"{first['p50']:.0f} ms, p99 {first['p99']:.0f} ms; errors {row['errors']}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
