"""Counting in one process, or on a Redis server for many hosts."""

import asyncio
import io
import time
from pathlib import Path

import pytest
from limits.aio.storage import RedisStorage
from redis.asyncio import Redis

from contact_gateway.access import counters
from contact_gateway.access.counters import Counters, Limit
from support.clock import WATCHDOG_SECONDS
from support.programs import redis_server

pytestmark = pytest.mark.anyio

LIMIT = Limit(3, 3600)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the server time to answer, and call it again only when a test says so."""
    monkeypatch.setattr(counters, "_TIMEOUT_SECONDS", WATCHDOG_SECONDS)
    monkeypatch.setattr(counters, "RETRY_AFTER_SECONDS", WATCHDOG_SECONDS)


async def test_hosts_with_one_server_count_together(tmp_path: Path) -> None:
    with redis_server(tmp_path) as port:
        hosts = [Counters(f"redis://127.0.0.1:{port}/0") for _ in range(2)]
        windows = [await hosts[number % 2].hit(LIMIT, "key") for number in range(4)]
        left = [await host.hit(LIMIT, "key", 0) for host in hosts]
        for host in hosts:
            await host.close()

    assert [(window.remaining, window.exceeded) for window in windows] == [
        (2, False),
        (1, False),
        (0, False),
        (0, True),
    ]
    assert [window.remaining for window in left] == [0, 0]


async def test_hosts_without_a_server_count_for_themselves() -> None:
    hosts = [Counters() for _ in range(2)]

    assert [(await host.hit(LIMIT, "key")).remaining for host in hosts] == [2, 2]


async def test_a_process_counts_for_itself_while_the_server_is_down(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as port:
        host = Counters(f"redis://127.0.0.1:{port}/0")
        await host.hit(LIMIT, "key")
    away = [await host.hit(LIMIT, "key") for _ in range(4)]
    assert [window.exceeded for window in away] == [False, False, False, True]
    assert log.getvalue().count("counting in this process") == 1

    monkeypatch.setattr(host, "_retry_at", 0.0)
    with redis_server(tmp_path, port):
        back = await host.hit(LIMIT, "key")
        await host.close()
    assert (back.remaining, back.exceeded) == (2, False)


async def test_an_unreachable_server_is_logged_without_its_password(log: io.StringIO) -> None:
    host = Counters("redis://:s3cret@127.0.0.1:1/0")

    assert (await host.hit(LIMIT, "key", 0)).remaining == 3
    assert (await host.hit(LIMIT, "key")).remaining == 2
    await host.close()
    assert "does not respond" in log.getvalue()
    assert '"cause":"ConnectionError"' in log.getvalue()
    assert "s3cret" not in log.getvalue()


async def test_concurrent_calls_of_a_server_that_is_down_are_logged_once(log: io.StringIO) -> None:
    host = Counters("redis://127.0.0.1:1/0")

    windows = await asyncio.gather(*(host.hit(LIMIT, "key") for _ in range(8)))
    await host.close()

    assert sorted(window.remaining for window in windows) == [0] * 6 + [1, 2]
    assert log.getvalue().count("counting in this process") == 1


async def test_reading_the_quota_opens_no_window_on_the_server(tmp_path: Path) -> None:
    with redis_server(tmp_path) as port:
        host = Counters(f"redis://127.0.0.1:{port}/0")
        left = await host.hit(LIMIT, "key", 0)
        async with Redis(port=port) as server:
            keys = await server.keys()
        await host.close()

    assert left.remaining == 3
    assert keys == []


@pytest.mark.parametrize(
    ("ends_in", "seconds"),
    [
        pytest.param(176_400, 3_600, id="of a clock that was set back"),
        pytest.param(100, 100, id="of another host"),
    ],
)
async def test_a_window_ends_with_that_of_the_server_but_is_no_longer_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_in: int, seconds: int
) -> None:
    with redis_server(tmp_path) as port:
        host = Counters(f"redis://127.0.0.1:{port}/0")
        await host.hit(LIMIT, "key")
        ends_at = time.time() + ends_in

        async def get_expiry(*_: object) -> float:
            return ends_at

        monkeypatch.setattr(RedisStorage, "get_expiry", get_expiry)
        quota = await host.hit(LIMIT, "key", 0)
        await host.close()

    assert quota.seconds_left() <= seconds
