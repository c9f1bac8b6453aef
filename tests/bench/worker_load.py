"""Streams `/v1/completions` from an OpenAI-compatible server to more and more clients at once, and times what they get.

`worker_load.py --base-url URL --model NAME [--api-key KEY] [--clients 1 4 16 32] [--requests-per-client N]
[--prompt-tokens 128] [--max-tokens 64] [--long-prompt-tokens N] [--seed N] [--json FILE]`. Each client sends its next
request when the last is answered. With `--long-prompt-tokens`, long prompts are read beside them, one every few seconds and
never two at once; the times are those of the clients' requests alone.

Prompts differ from their first words on, so a server's cache of them doesn't help, but each run on the same server has to
take another seed. One request before the first tells how many tokens a prompt's characters make. Answers are greedy and
don't end early where the server knows `ignore_eos`. Their tokens are those of the server's `usage`; of a server that sends
none, `max_tokens` where it says that the answer was cut there, or else the pieces that came.

- ttft: from sending a request to the first text of its answer
- token: from the first text to the last, by the tokens between them; one number a request
- gap: from a piece of text to the next; servers hold back what isn't whole characters yet
"""

import argparse
import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

LONG_EVERY_SECONDS = 4.0
SILENCE_SECONDS = 600.0
CALIBRATION_CHARACTERS = 400
WORDS = (
    "患者 反复 头晕 头痛 发热 咳嗽 胸闷 心悸 乏力 恶心 呕吐 腹痛 腹泻 便秘 失眠 水肿 皮疹 关节痛 血压偏高 血糖升高 三天 两周 半年 饭后 "
    "夜间 加重 缓解 服用 阿司匹林 二甲双胍 氨氯地平 布洛芬 头孢 检查 血常规 心电图 肝功能 胃镜 提示 异常 正常 高血压 糖尿病 冠心病 "
    "胃炎 肺炎 甲亢 贫血 家族史 无过敏史 饮食清淡 注意休息 适量运动 定期复查 请问 是否 需要 住院 手术 怎么 治疗 有没有 副作用"
).split()


def text(random_: random.Random, characters: int) -> str:
    words: list[str] = []
    length = 0
    while length < characters:
        words.append(random_.choice(WORDS) + random_.choice(("", "", "，", "。")))
        length += len(words[-1])
    return "".join(words)[:characters]


@dataclass
class Answer:
    ttft: float
    seconds: float
    tokens: int
    gaps: list[float]


@dataclass(eq=False)
class Failure(Exception):
    """What a request came to instead of an answer: a status other than 200, or what went wrong after that."""

    status: str
    body: str = ""


async def check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise Failure(str(response.status), await response.text())


@dataclass
class Server:
    session: aiohttp.ClientSession
    url: str
    model: str

    def body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        return {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}

    async def prompt_tokens(self, prompt: str) -> int:
        async with self.session.post(self.url, json=self.body(prompt, 1)) as response:
            await check(response)
            return int((await response.json())["usage"]["prompt_tokens"])

    async def stream(self, prompt: str, max_tokens: int) -> Answer:
        body = self.body(prompt, max_tokens) | {"stream": True, "stream_options": {"include_usage": True}}
        start = time.perf_counter()
        times: list[float] = []
        counted, finish = None, None
        async with self.session.post(self.url, json=body) as response:
            await check(response)
            async for line in response.content:
                if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                    continue
                event = json.loads(line[5:])
                if event.get("error"):
                    raise Failure("error in stream")
                counted = (event.get("usage") or {}).get("completion_tokens", counted)
                for choice in event.get("choices", ()):
                    finish = choice.get("finish_reason") or finish
                    if choice["text"]:
                        times.append(time.perf_counter())
        if finish is None or not times:
            raise Failure("incomplete")
        tokens = counted or (max_tokens if finish == "length" else len(times))
        gaps = [after - before for before, after in zip(times, times[1:])]
        return Answer(times[0] - start, times[-1] - times[0], tokens, gaps)


@dataclass
class Load:
    """What the clients of one round got."""

    answers: list[Answer] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def request(self, server: Server, prompt: str, max_tokens: int) -> None:
        try:
            self.answers.append(await server.stream(prompt, max_tokens))
        except Failure as failure:
            self.errors[failure.status] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors[type(error).__name__] += 1


async def read_long_prompts(server: Server, prompts: Iterator[str], load: Load) -> None:
    for prompt in prompts:
        await asyncio.gather(load.request(server, prompt, 1), asyncio.sleep(LONG_EVERY_SECONDS))


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """In milliseconds, each a value that occurred."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {f"p{p}": 1000 * ordered[math.ceil(len(ordered) * p / 100) - 1] for p in (50, 99)}


async def measure(server: Server, prompts: Iterator[str], long_prompts: Iterator[str] | None, clients: int,
                  requests: int, max_tokens: int) -> dict[str, Any]:
    load, long_load = Load(), Load()

    async def client() -> None:
        for _ in range(requests):
            await load.request(server, next(prompts), max_tokens)

    beside = asyncio.create_task(read_long_prompts(server, long_prompts, long_load)) if long_prompts else None
    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - start
    if beside:
        beside.cancel()
        await asyncio.wait([beside])
    answers = load.answers
    row: dict[str, Any] = {
        "clients": clients,
        "seconds": seconds,
        "answers": len(answers),
        "tokens_per_second": sum(answer.tokens for answer in answers) / seconds,
        "requests_per_second": len(answers) / seconds,
        "tokens_per_answer": sum(answer.tokens for answer in answers) / max(1, len(answers)),
        "ttft_ms": percentiles([answer.ttft for answer in answers]),
        "token_ms": percentiles([answer.seconds / (answer.tokens - 1) for answer in answers if answer.tokens > 1]),
        "gap_ms": percentiles([gap for answer in answers for gap in answer.gaps]),
        "errors": dict(load.errors),
    }
    if beside:
        row["long"] = {"answers": len(long_load.answers), "errors": dict(long_load.errors)}
    return row


def show(row: dict[str, Any]) -> str:
    def both(name: str) -> str:
        values = row[f"{name}_ms"] or {}
        return f"{name} {' / '.join(f'{value:.0f}' for value in values.values()) or '–'}"

    beside = f"  beside {row['long']}" if "long" in row else ""
    return (f"{row['clients']:3} clients  {row['tokens_per_second']:7.1f} tokens/s  {row['requests_per_second']:6.2f} "
            f"requests/s  {'  '.join(map(both, ('ttft', 'token', 'gap')))}  {row['tokens_per_answer']:.0f} tokens an "
            f"answer  errors {row['errors']}{beside}")


async def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    random_ = random.Random(arguments.seed)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
    headers = {"Authorization": f"Bearer {arguments.api_key}"} if arguments.api_key else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        server = Server(session, arguments.base_url.rstrip("/") + "/v1/completions", arguments.model)
        try:
            tokens = await server.prompt_tokens(text(random_, CALIBRATION_CHARACTERS))
        except Failure as failure:
            raise SystemExit(f"the server answers {failure.status}: {failure.body}") from None
        except aiohttp.ClientError as error:
            raise SystemExit(str(error)) from None

        def prompts(wanted: int) -> Iterator[str]:
            while True:
                yield text(random_, round(wanted * CALIBRATION_CHARACTERS / tokens))

        long_prompts = prompts(arguments.long_prompt_tokens) if arguments.long_prompt_tokens else None
        print(f"prompts of about {arguments.prompt_tokens} tokens, {CALIBRATION_CHARACTERS / tokens:.2f} characters each; "
              "milliseconds p50 / p99")
        rows = []
        for clients in arguments.clients:
            rows.append(await measure(server, prompts(arguments.prompt_tokens), long_prompts, clients,
                                      arguments.requests_per_client, arguments.max_tokens))
            print(show(rows[-1]), flush=True)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="without /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--requests-per-client", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--long-prompt-tokens", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments))
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name not in ("api_key", "json")}
        arguments.json.write_text(json.dumps({"settings": settings, "rounds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
