"""Counting, by one process or by many hosts on a server of Redis's protocol."""

import io
from pathlib import Path

import pytest
from limits import RateLimitItemPerHour

from contact_gateway.access.counters import Counters
from support.programs import redis_server

pytestmark = pytest.mark.anyio

LIMIT = RateLimitItemPerHour(3)


async def test_hosts_with_one_server_count_together(tmp_path: Path) -> None:
    with redis_server(tmp_path) as port:
        hosts = [Counters(f"redis://127.0.0.1:{port}/0") for _ in range(2)]
        windows = [await hosts[number % 2].hit(LIMIT, "key") for number in range(4)]
        left = [await host.read(LIMIT, "key") for host in hosts]
        for host in hosts:
            await host.close()

    assert [(window.remaining, window.exceeded) for window in windows] == [
        (2, False),
        (1, False),
        (0, False),
        (0, True),
    ]
    assert [window.remaining for window in left] == [0, 0]


async def test_hosts_without_one_count_by_themselves() -> None:
    hosts = [Counters() for _ in range(2)]

    assert [(await host.hit(LIMIT, "key")).remaining for host in hosts] == [2, 2]


async def test_while_the_server_does_not_answer_a_process_counts_by_itself(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as port:
        counters = Counters(f"redis://127.0.0.1:{port}/0")
        await counters.hit(LIMIT, "key")
    away = [await counters.hit(LIMIT, "key") for _ in range(4)]
    assert [window.exceeded for window in away] == [False, False, False, True]
    assert log.getvalue().count("counts by itself") == 1

    monkeypatch.setattr(counters, "_asked_from", 0.0)
    with redis_server(tmp_path, port):
        back = await counters.hit(LIMIT, "key")
        await counters.close()
    assert (back.remaining, back.exceeded) == (2, False)


async def test_a_server_that_is_not_there_is_told_without_its_password(log: io.StringIO) -> None:
    counters = Counters("redis://:s3cret@127.0.0.1:1/0")

    assert (await counters.hit(LIMIT, "key")).remaining == 2
    await counters.close()
    assert "does not answer" in log.getvalue()
    assert "s3cret" not in log.getvalue()
