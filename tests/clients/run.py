"""Clients that others wrote, against a worker: OpenAI's Python and npm packages, the AI SDK, and Schemathesis.

`run.py --worker BINARY --modules FOLDER [--node NODE] [--seed N] [--max-examples N]`, with openai and schemathesis installed,
and `npm install openai ai zod` run in the folder. Starts two workers on free ports, one of them hasty, prints how many tests of
each suite passed, and exits with 1 if any failed. Takes about a minute, most of it Schemathesis's.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START_SECONDS = 120.0
SUITE_SECONDS = 900.0
# Answers that don't end by themselves are to be short: requests made at random seldom say how long theirs may be.
PATIENT = ("limits.max_tokens=256",)
# Too little time for a long answer, and no place for three at once.
HASTY = ("deadlines.total_ms=300", "scheduler.most_waiting=2")

CHECKS = (
    # With a loaded model there is no 503 either, though it is in the document.
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
# Values made at random name no model and ask nothing, so that nearly all requests would be refused. Hence these, as examples
# that others are made from; the question has danger signs.
QUESTION = "胸口突然剧烈疼痛，出冷汗怎么办？"
ASKED: dict[str, Any] = {"question": QUESTION}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
TEXT: dict[str, Any] = {"prompt": QUESTION, "max_tokens": 8}
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [CHAT, CHAT | STREAM | {"n": 2}],
    "/v1/completions": [TEXT, TEXT | STREAM | {"n": 2}],
    "/v1/embeddings": [{"input": QUESTION}, {"input": [QUESTION, "x"], "encoding_format": "base64"}],
    "/v1/retrieve": [ASKED | {"limit": 2}],
    "/v1/consult": [ASKED, ASKED | {"stream": True}, ASKED | {"references_only": True}],
    "/v1/consult/ui": [{"messages": [{"role": "user", "parts": [{"type": "text", "text": QUESTION}]}]}],
}
# And these, put into most of the others; 256 is the number of dimensions of the encoder that the program carries.
MIXED_IN: dict[str, str | int] = {
    "path.name": "huatuo",
    "body.model": "huatuo",
    "body.dimensions": 256,
    "body.question": QUESTION,
    "body.messages[*].parts[*].type": "text",
    "body.messages[*].parts[*].text": QUESTION,
}
SHARE = 0.8
# Without its model the worker would refuse all that comes after.
UNLOADS = "/v1/models/{name}/unload"
MOST_EVENTS = 10_000


@contextmanager
def worker(binary: Path, key: str, settings: Sequence[str], log: Path) -> Iterator[str]:
    """A worker's URL, while it runs."""
    arguments = [str(binary), "--listen", "127.0.0.1:0"]
    for setting in settings:
        arguments += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUATUO_")}
    environment["HUATUO_WORKER_ADMIN_KEYS"] = json.dumps([key])
    with log.open("wb") as stderr, subprocess.Popen(arguments, stderr=stderr, env=environment) as process:
        try:
            yield listening(process, log)
        finally:
            process.kill()


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        found = re.search(r"listening on (http://[\d.]+:\d+)", log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the worker does not listen: {log.read_text(errors='replace')}")


def python_suite() -> tuple[int, int]:
    suite = unittest.defaultTestLoader.discover(str(HERE), "test_openai.py")
    result = unittest.TextTestRunner().run(suite)
    failed = len(result.failures) + len(result.errors)
    return result.testsRun - failed - len(result.skipped), failed


def node_suite(node: str) -> tuple[int, int]:
    command = [node, "--test", "--test-reporter=tap", str(HERE / "openai.test.mjs")]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SUITE_SECONDS)
    passed, failed = (re.search(rf"^# {word} (\d+)$", ran.stdout, re.MULTILINE) for word in ("pass", "fail"))
    if ran.returncode != 0 or not passed or not failed:
        print(ran.stdout)
        return int(passed[1]) if passed else 0, max(1, int(failed[1]) if failed else 1)
    return int(passed[1]), int(failed[1])


def document(url: str, key: str) -> dict[str, Any]:
    """The worker's document with the examples, and what it says of events where Schemathesis looks for it.

    OpenAPI 3.1 has no words for events: the worker's document has the schema of their data, Schemathesis reads it as that of
    objects with data and name.
    """
    request = urllib.request.Request(f"{url}/openapi.json", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as response:
        document: dict[str, Any] = json.load(response)
    for path, bodies in EXAMPLES.items():
        examples = {str(at): {"value": body} for at, body in enumerate(bodies)}
        document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"] = examples
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                events = answer.get("content", {}).get("text/event-stream")
                if events:
                    data = {"contentMediaType": "application/json", "contentSchema": events["schema"]}
                    data = {"anyOf": [{"const": "[DONE]"}, data]}
                    events["schema"] = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return document


def configuration() -> str:
    """What is mixed in, in Schemathesis's words."""
    lines = [f"max-stream-events = {MOST_EVENTS}"]
    for at, value in enumerate(MIXED_IN.values()):
        lines += [f"[dictionaries.d{at}]", f"values = {json.dumps([value], ensure_ascii=False)}"]
    lines.append("[parameters]")
    lines += [f'"{name}" = {{ dictionary = "d{at}", probability = {SHARE} }}' for at, name in enumerate(MIXED_IN)]
    return "\n".join(lines) + "\n"


def schemathesis_suite(url: str, key: str, folder: Path, seed: int, max_examples: int) -> tuple[int, int]:
    openapi, config, report = (folder / name for name in ("openapi.json", "schemathesis.toml", "report.xml"))
    openapi.write_text(json.dumps(document(url, key)))
    config.write_text(configuration())
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", str(openapi), "--url", url]
    command += ["--header", f"Authorization: Bearer {key}", "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", str(max_examples), "--checks", ",".join(CHECKS), "--exclude-path", UNLOADS]
    command += ["--seed", str(seed), "--generation-database", "none", "--continue-on-failure", "--no-color"]
    command += ["--report", "junit", "--report-junit-path", str(report)]
    ran = subprocess.run(command, cwd=folder, timeout=SUITE_SECONDS)
    if not report.exists():
        return 0, 1
    suites = ElementTree.parse(report).getroot()
    tests, failures, errors = (int(suites.get(name, 0)) for name in ("tests", "failures", "errors"))
    failed = max(failures + errors, int(ran.returncode != 0))
    return tests - failed, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help="the huatuo-worker program")
    parser.add_argument("--modules", type=Path, required=True, help="folder in which the npm packages are installed")
    parser.add_argument("--node", default="node", help="the node program")
    parser.add_argument("--seed", type=int, default=1, help="seed of Schemathesis's requests")
    parser.add_argument("--max-examples", type=int, default=60, help="requests to an operation made at random")
    arguments = parser.parse_args()
    binary, modules, key = arguments.worker.resolve(), arguments.modules.resolve(), secrets.token_hex(16)
    has_failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with (
            worker(binary, key, PATIENT, folder / "patient.log") as url,
            worker(binary, key, HASTY, folder / "hasty.log") as hasty_url,
        ):
            os.environ |= {
                "HUATUO_WORKER_URL": url,
                "HUATUO_WORKER_KEY": key,
                "HUATUO_WORKER_HASTY_URL": hasty_url,
                "HUATUO_CLIENT_MODULES": str(modules),
            }
            suites = {
                "openai (Python)": python_suite,
                "openai and ai (npm)": lambda: node_suite(arguments.node),
                "schemathesis": lambda: schemathesis_suite(url, key, folder, arguments.seed, arguments.max_examples),
            }
            lines = []
            for name, run in suites.items():
                started = time.monotonic()
                passed, failed = run()
                lines.append(f"{name}, {time.monotonic() - started:.0f} s: {passed} passed, {failed} failed")
                has_failed |= failed > 0
    print("\n".join(lines))
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
