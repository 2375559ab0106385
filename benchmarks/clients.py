"""Asynchronous HTTP clients: POSTs per second from one core, 32 at a time.

The upstream API on the other core answers them, in interleaved rounds. Run it with `scripts/bench
clients`, which installs the clients in a separate environment.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from typing import Final

import aiohttp
import httpx
import uvloop
from pyreqwest.client import ClientBuilder

from benchmarks import servers
from benchmarks.report import spread, table
from benchmarks.run import python
from benchmarks.upstream_server import PATH

Post = Callable[[], Awaitable[tuple[int, bytes]]]
_CONCURRENCY: Final = 32
_CONNECTIONS: Final = 100
_WARM_UP_SECONDS: Final = 1
_BODY: Final = (
    b'{"contact": {"advertiser_id": 42, "email": "noor@example.com", "given_name": "Noor", '
    b'"family_name": "Haddad", "job_title": "Buyer", "source": "benchmark"}}'
)
_HEADERS: Final = {"X-Api-Key": "benchmark", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one client in one round."""

    per_second: float
    cpu_microseconds: float
    p50_ms: float
    p99_ms: float


@asynccontextmanager
async def httpx_client(url: str) -> AsyncIterator[Post]:
    """Yield a function that posts with httpx, over HTTP/1.1."""
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with httpx.AsyncClient(limits=limits) as client:

        async def post() -> tuple[int, bytes]:
            response = await client.post(url, content=_BODY, headers=_HEADERS)
            return response.status_code, response.content

        yield post


@asynccontextmanager
async def aiohttp_client(url: str) -> AsyncIterator[Post]:
    """Yield a function that posts with aiohttp, without a cookie jar."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def post() -> tuple[int, bytes]:
            async with session.post(
                url, data=_BODY, headers=_HEADERS, allow_redirects=False
            ) as response:
                return response.status, await response.read()

        yield post


@asynccontextmanager
async def pyreqwest_client(url: str) -> AsyncIterator[Post]:
    """Yield a function that posts with pyreqwest. Its thread shares the core."""
    builder = ClientBuilder().max_connections(_CONNECTIONS).follow_redirects(enable=False)
    async with builder.build() as client:

        async def post() -> tuple[int, bytes]:
            request = client.post(url).headers(_HEADERS).body_bytes(_BODY).build()
            response = await request.send()
            return response.status, bytes(await response.bytes())

        yield post


CLIENTS: Final[Mapping[str, Callable[[str], AbstractAsyncContextManager[Post]]]] = {
    "httpx": httpx_client,
    "aiohttp": aiohttp_client,
    "pyreqwest": pyreqwest_client,
}


async def _load(post: Post, seconds: float) -> Round:
    taken: list[float] = []
    cpu_before, started_at = time.process_time(), time.perf_counter()
    end = started_at + seconds

    async def work() -> None:
        while (sent_at := time.perf_counter()) < end:
            status, body = await post()
            if status != HTTPStatus.CREATED or not body:
                raise servers.BenchmarkError(f"The upstream API answered {status}: {body!r}")
            taken.append(time.perf_counter() - sent_at)

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    percentiles = quantiles(taken, n=100)
    return Round(
        per_second=len(taken) / (time.perf_counter() - started_at),
        cpu_microseconds=(time.process_time() - cpu_before) / len(taken) * 1e6,
        p50_ms=percentiles[49] * 1e3,
        p99_ms=percentiles[98] * 1e3,
    )


def _measure(rounds: int, seconds: float) -> dict[str, list[Round]]:
    async def measure(name: str, url: str) -> Round:
        async with CLIENTS[name](url) as post:
            await _load(post, _WARM_UP_SECONDS)
            return await _load(post, seconds)

    servers.pin_here(servers.GATEWAY_CORE)
    measured: dict[str, list[Round]] = {name: [] for name in CLIENTS}
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.upstream(Path(folder) / "log") as upstream,
    ):
        url = f"http://127.0.0.1:{upstream.port}{PATH}"
        for _ in range(rounds):
            for name, each in measured.items():
                each.append(uvloop.run(measure(name, url)))
    return measured


def _row(name: str, rounds: list[Round]) -> tuple[str, ...]:
    return (
        f"{name} {version(name)}",
        spread([each.per_second for each in rounds]),
        spread([each.cpu_microseconds for each in rounds]),
        spread([each.p50_ms for each in rounds], 1),
        spread([each.p99_ms for each in rounds], 1),
    )


def main() -> None:
    """Measure every client in every round, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    try:
        measured = _measure(options.rounds, options.seconds)
    except servers.BenchmarkError as error:
        sys.exit(str(error))
    head = ("client", "POSTs/s", "CPU µs per POST", "p50 ms", "p99 ms")
    sys.stdout.write(
        f"{options.rounds} interleaved rounds of {options.seconds:g} s, {_CONCURRENCY} at a time, "
        f"{python()} on uvloop. Medians (least to most).\n\n"
        + table(head, (_row(name, rounds) for name, rounds in measured.items()))
        + "\n"
    )


if __name__ == "__main__":
    main()
