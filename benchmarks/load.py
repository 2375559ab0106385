"""The load: wrk sends requests and checks every answer."""

import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from benchmarks.servers import BenchmarkError, tool

CONNECTIONS: Final = 32
CHECKED: Final = 320
_SCRIPT: Final = Path(__file__).with_name("load.lua")
_FIGURE: Final = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Operation:
    """A POST, and what its answer holds: a status, no errors, and so many e-mail addresses.

    In the body, `{n}` becomes what no other request has, `{id}` a number from 1 to `ids`, and in
    `holds` likewise, which is in the answer without its blanks. One that `creates` a contact has
    `{n}` in its e-mail address.
    """

    path: str
    body: str
    status: int
    creates: bool = True
    addresses: int = 1
    holds: str = '"email":"{n}@'
    key: str = "benchmark"
    ids: int = 1


class WrongAnswerError(BenchmarkError):
    """A server answered something else than what was asked for."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of sending requests for a while; only right answers count as requests."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failures: int
    failure: str


def check(operation: Operation, port: int) -> None:
    """Send some requests over all connections, and see that each has the answer to itself.

    Raises:
        WrongAnswerError: one has not.
    """
    with ThreadPoolExecutor(CONNECTIONS) as callers:
        asked = [callers.submit(ask_once, operation, port) for _ in range(CHECKED)]
        for each in asked:
            each.result()


def ask_once(operation: Operation, port: int) -> bytes:
    """Send one request, and return the answer's body.

    Raises:
        WrongAnswerError: it does not hold what was asked for.
    """
    mark, an_id = _mark(), secrets.randbelow(operation.ids) + 1
    headers = {"X-Api-Key": operation.key, "Content-Type": "application/json"}
    sent = operation.body.replace("{n}", mark).replace("{id}", str(an_id))
    held = operation.holds.replace("{n}", mark).replace("{id}", str(an_id))
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", operation.path, sent, headers)
        response = connection.getresponse()
        body = response.read()
    is_right = (
        response.status == operation.status
        and body.count(b'"email":') == operation.addresses
        and held.encode() in body.replace(b" ", b"")
        and b'"errors"' not in body
    )
    if not is_right:
        raise WrongAnswerError(f"a wrong answer: {response.status} {body.decode()}")
    return body


def send(operation: Operation, port: int, seconds: float) -> Load:
    """Send requests over all connections for some seconds, from the core of this process."""
    command = (
        *(tool("wrk", "wrk"), "--threads", "1", "--connections", str(CONNECTIONS)),
        *("--duration", f"{seconds:g}s", "--timeout", "10s", "--script", str(_SCRIPT)),
        *(f"http://127.0.0.1:{port}{operation.path}", "--", operation.body),
        *(str(operation.status), str(operation.addresses), str(int(operation.creates))),
        *(operation.key, str(operation.ids), _mark()),
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


def _mark() -> str:
    return f"m{secrets.token_hex(5)}x"
