"""The load generator: wrk sends requests and checks every answer."""

import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from benchmarks.operations import Operation
from benchmarks.servers import BenchmarkError, tool

CONNECTIONS: Final = 32
_CHECKED_REQUESTS: Final = 320
_SCRIPT: Final = Path(__file__).with_name("load.lua")
_FIGURE: Final = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


class WrongAnswerError(BenchmarkError):
    """An answer does not match its request."""


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of a period of load. `requests` and `per_second` count right answers only."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failures: int
    failure: str


def send(operation: Operation, port: int, seconds: float) -> Load:
    """Send requests over all connections for some seconds, from this process's core."""
    command = (
        *(tool("wrk", "wrk"), "--threads", "1", "--connections", str(CONNECTIONS)),
        *("--duration", f"{seconds:g}s", "--timeout", "10s", "--script", str(_SCRIPT)),
        *(f"http://127.0.0.1:{port}{operation.path}", "--", operation.body),
        *(str(operation.status), str(operation.least), str(operation.most)),
        *(str(int(operation.creates)), operation.key, str(operation.ids), _unique_text()),
    )
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    figures = dict(_FIGURE.findall(run.stdout))
    if run.returncode or "requests" not in figures:
        raise BenchmarkError(f"wrk failed: {run.stderr or run.stdout}")
    wrong = int(figures["failures"])
    right = int(figures["requests"]) - wrong
    return Load(
        requests=right,
        per_second=right / int(figures["microseconds"]) * 1e6,
        p50_ms=int(figures["p50"]) / 1e3,
        p99_ms=int(figures["p99"]) / 1e3,
        failures=wrong + int(figures["lost"]),
        failure=figures["failure"],
    )


def check(operation: Operation, port: int) -> None:
    """Send concurrent requests and check that each gets its own answer, which wrk cannot.

    Raises:
        WrongAnswerError: an answer does not match its request.
    """
    with ThreadPoolExecutor(CONNECTIONS) as callers:
        answers = [callers.submit(ask_once, operation, port) for _ in range(_CHECKED_REQUESTS)]
        for answer in answers:
            answer.result()


def ask_once(operation: Operation, port: int) -> bytes:
    """Send one request and return the answer's body.

    Raises:
        WrongAnswerError: the answer does not match the request.
    """
    unique, an_id = _unique_text(), secrets.randbelow(operation.ids) + 1
    size = operation.least + secrets.randbelow(operation.most - operation.least + 1)
    headers = {"X-Api-Key": operation.key, "Content-Type": "application/json"}
    sent = operation.body.replace("{n}", unique).replace("{id}", str(an_id))
    sent = sent.replace("{size}", str(size))
    expected = operation.holds.replace("{n}", unique).replace("{id}", str(an_id))
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", operation.path, sent, headers)
        response = connection.getresponse()
        body = response.read()
    is_right = (
        response.status == operation.status
        and body.count(b'"email":') == size
        and expected.encode() in body.replace(b" ", b"")
        and b'"errors"' not in body
    )
    if not is_right:
        raise WrongAnswerError(f"wrong answer: {response.status} {body.decode()}")
    return body


def _unique_text() -> str:
    return f"m{secrets.token_hex(5)}x"
