"""Mixed load on one worker for as long as is asked for: what it answers, and whether memory or descriptors grow.

`soak.py --worker BINARY [--minutes 60] [--clients 8]`. Clients consult, chat, complete, embed and retrieve, streaming or not, with
other words each time; some leave in mid-stream, some ask what is refused. Prints a line a minute, and exits with 1 where an answer
was none of those documented, where resident memory grew by 2 % or more between the first tenth and the last, or where
descriptors did.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

KEY = "a-key-for-these-servers"
SYMPTOMS = "头痛 发烧 咳嗽 胸闷 失眠 腹泻 高血压 糖尿病 贫血 荨麻疹 胃炎 痛风 感冒 便秘 湿疹 关节痛 哮喘 鼻炎 颈椎病 口腔溃疡".split()
ASKED = "怎么办 吃什么药 要注意什么 是什么原因 会不会传染 需要住院吗 怎么预防 要做什么检查".split()
START_SECONDS = 180.0
ANSWER_SECONDS = 120.0
SAMPLE_SECONDS = 5.0
MOST_GROWTH = 1.02
#: So little that what is kept for later has filled it in the first minutes, and memory that still grows is a leak.
KV_BYTES = 32 << 20
#: Connections open and close all the time; a leak grows beyond any of them.
MOST_DESCRIPTORS = 16


class Load:
    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.until = 0.0

    def client(self, seed: int) -> None:
        random_ = random.Random(seed)
        while time.monotonic() < self.until:
            kind = random_.choice(list(KINDS))
            try:
                status = self.one(kind, random_)
            except (OSError, ValueError) as error:
                self.wrong.append(f"{kind}: {error!r}")
                continue
            self.seen[f"{kind} {status}"] += 1
            allowed = (400,) if kind == "refused" else (200, 429)
            if status not in allowed:
                self.wrong.append(f"{kind}: {status}")

    def one(self, kind: str, random_: random.Random) -> int:
        path, body = KINDS[kind]
        text = f"{random_.choice(SYMPTOMS)}{random_.randrange(100)}天{random_.choice(ASKED)}？"
        data = json.dumps(body).replace("TEXT", text).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=ANSWER_SECONDS) as answer:
                if kind == "leaves":
                    answer.read(random_.randrange(1, 4000))
                else:
                    answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.read()
            return error.code


CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "TEXT"}], "max_tokens": 64}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "consult": ("/v1/consult", {"question": "TEXT"}),
    "consult stream": ("/v1/consult", {"question": "TEXT", "stream": True}),
    "ui stream": ("/v1/consult/ui", {"messages": [{"role": "user", "parts": [{"type": "text", "text": "TEXT"}]}]}),
    "chat": ("/v1/chat/completions", CHAT),
    "chat stream": ("/v1/chat/completions", CHAT | {"stream": True, "n": 2}),
    "text": ("/v1/completions", {"prompt": "TEXT" * 20, "max_tokens": 200, "ignore_eos": True}),
    "embed": ("/v1/embeddings", {"input": ["TEXT", "TEXT 二"]}),
    "retrieve": ("/v1/retrieve", {"question": "TEXT"}),
    "leaves": ("/v1/completions", {"prompt": "TEXT", "max_tokens": 1500, "ignore_eos": True, "stream": True}),
    "refused": ("/v1/chat/completions", CHAT | {"n": 1_000_000}),
}


def resident_and_descriptors(pid: int) -> tuple[int, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0, len(os.listdir(f"/proc/{pid}/fd"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    environment = os.environ | {"HUATUO_WORKER_API_KEYS": json.dumps([KEY])}
    command = [str(arguments.worker), "--listen", "127.0.0.1:0", "--set", f"scheduler.kv_bytes={KV_BYTES}"]
    with tempfile.NamedTemporaryFile("w+b") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        try:
            return soak(arguments, process, Path(log.name))
        finally:
            process.kill()


def soak(arguments: argparse.Namespace, process: subprocess.Popen[bytes], log: Path) -> int:
    end = time.monotonic() + START_SECONDS
    while not (found := re.search(r"listening on (http://\S+)", log.read_text(errors="replace"))):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(log.read_text(errors="replace"))
        time.sleep(0.1)
    load = Load(found[1])
    load.until = time.monotonic() + 60 * arguments.minutes
    clients = [threading.Thread(target=load.client, args=(seed,)) for seed in range(arguments.clients)]
    for client in clients:
        client.start()
    samples: list[tuple[int, int]] = []
    while any(client.is_alive() for client in clients):
        time.sleep(SAMPLE_SECONDS)
        samples.append(resident_and_descriptors(process.pid))
        if len(samples) % round(60 / SAMPLE_SECONDS) == 0:
            memory, descriptors = samples[-1]
            answers = sum(load.seen.values())
            print(f"{len(samples) * SAMPLE_SECONDS / 60:.0f} min: {answers} answers, {memory >> 20} MB, {descriptors} descriptors", flush=True)
    tenth = max(1, len(samples) // 10)
    # The very first answers fill caches.
    first, last = samples[tenth : 2 * tenth], samples[-tenth:]
    memory = [statistics.median(sample[0] for sample in part) for part in (first, last)]
    descriptors = [statistics.median(sample[1] for sample in part) for part in (first, last)]
    for kind, count in sorted(load.seen.items()):
        print(f"   {kind}: {count}")
    print(f"memory {memory[0] / 1e6:.1f} MB, then {memory[1] / 1e6:.1f} MB; descriptors {descriptors[0]:.0f}, then {descriptors[1]:.0f}")
    for wrong in load.wrong[:20]:
        print(f"   WRONG {wrong}")
    if b"panicked" in log.read_bytes():
        load.wrong.append("a panic")
    is_flat = memory[1] < MOST_GROWTH * memory[0] and descriptors[1] <= descriptors[0] + MOST_DESCRIPTORS
    return int(bool(load.wrong) or not is_flat or process.poll() is not None)


if __name__ == "__main__":
    sys.exit(main())
