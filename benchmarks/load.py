"""The load: wrk sends creations of new contacts and checks every answer."""

import re
import secrets
import subprocess
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from benchmarks.servers import BenchmarkError, tool

CONNECTIONS: Final = 32
_SCRIPT: Final = Path(__file__).with_name("create.lua")
_FIGURE: Final = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Creation:
    """A request that creates a contact. `{n}` in its body becomes what no other request has."""

    path: str
    body: str
    status: int


class WrongAnswerError(BenchmarkError):
    """A server answered something else than the created contact."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of sending creations for a while."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failures: int
    failure: str


def create_one(creation: Creation, port: int) -> bytes:
    """Create one contact, and return the answer's body.

    Raises:
        WrongAnswerError: it does not hold the contact.
    """
    mark = _mark()
    headers = {"X-Api-Key": "benchmark", "Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", creation.path, creation.body.replace("{n}", mark), headers)
        response = connection.getresponse()
        body = response.read()
    if response.status != creation.status or mark.encode() not in body or b'"errors"' in body:
        raise WrongAnswerError(f"not the contact: {response.status} {body.decode()}")
    return body


def send(creation: Creation, port: int, seconds: float) -> Load:
    """Send creations over all connections for some seconds, from the core of this process."""
    command = (
        *(tool("wrk", "wrk"), "--threads", "1", "--connections", str(CONNECTIONS)),
        *("--duration", f"{seconds:g}s", "--timeout", "10s", "--script", str(_SCRIPT)),
        *(f"http://127.0.0.1:{port}{creation.path}", "--"),
        *(creation.body, str(creation.status), _mark()),
    )
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    figures = dict(_FIGURE.findall(run.stdout))
    if run.returncode or "requests" not in figures:
        raise BenchmarkError(f"wrk failed: {run.stderr or run.stdout}")
    requests = int(figures["requests"])
    return Load(
        requests=requests,
        per_second=requests / int(figures["microseconds"]) * 1e6,
        p50_ms=int(figures["p50"]) / 1e3,
        p99_ms=int(figures["p99"]) / 1e3,
        failures=int(figures["failures"]),
        failure=figures["failure"],
    )


def _mark() -> str:
    return f"m{secrets.token_hex(5)}x"
