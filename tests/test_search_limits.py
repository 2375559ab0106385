"""Searches: the database stops slow ones, and one key cannot occupy all connections."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.store import contacts, sqlite
from contact_gateway.store.source import MAX_SEARCHES_PER_KEY, SEARCH_TIMEOUT_SECONDS
from support.clock import WATCHDOG_SECONDS, ManualClock
from support.databases import Engine, locked
from support.faces import Json
from support.gateway import Gateway, running_gateway

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Slowness:
    """Makes each search take longer than its timeout."""

    engine: Engine

    @asynccontextmanager
    async def gateway(self, folder: Path) -> AsyncIterator[Gateway]:
        """Run a gateway whose searches take too long."""
        # SQLite checks the time after every instruction, and PostgreSQL waits for a lock.
        timeout = 1e-9 if self.engine is Engine.SQLITE else 0.05
        async with running_gateway(folder, search_timeout_seconds=timeout) as gateway:
            yield gateway

    @contextmanager
    def slow(self, gateway: Gateway, table: str = "contacts") -> Iterator[None]:
        """Let searches of a table take too long meanwhile."""
        if self.engine is Engine.SQLITE:
            yield
            return
        with locked(gateway.database.address, unreadable=table):
            yield


@pytest.fixture
def slowness(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Slowness:
    monkeypatch.setattr(sqlite, "_INSTRUCTIONS_BETWEEN_CHECKS", 1)
    return Slowness(engine)


@pytest.mark.parametrize("path", ["/contacts", "/advertisers", "/advertisers/1001/contacts"])
async def test_a_search_by_rest_is_stopped_after_its_timeout(
    tmp_path: Path, slowness: Slowness, path: str
) -> None:
    async with slowness.gateway(tmp_path) as gateway:
        with slowness.slow(gateway, path.rpartition("/")[2]):
            answer = await gateway.rest(path, gateway.member, q="no such text")

        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "SEARCH_TIMEOUT"
        assert answer.headers["Retry-After"] == "5"
        assert (await gateway.rest("/advertisers/1001", gateway.member)).status_code == 200
        assert (await gateway.client.get("/readyz")).status_code == 200


async def test_a_search_by_graphql_is_stopped_after_its_timeout(
    tmp_path: Path, slowness: Slowness
) -> None:
    async with slowness.gateway(tmp_path) as gateway:
        with slowness.slow(gateway):
            alone = await gateway.graphql('{ contacts(q: "x") { nodes { id } } }', gateway.member)
            beside = await gateway.graphql(
                '{ contacts(q: "x") { nodes { id } } viewer { label } }', gateway.member
            )

    assert (alone.status_code, beside.status_code) == (503, 200)
    for answer in (alone, beside):
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "SEARCH_TIMEOUT"
        assert error["extensions"]["retryAfterSeconds"] == int(answer.headers["Retry-After"])
        assert answer.headers["Retry-After"] == "5"
    assert beside.json()["data"] == {"contacts": None, "viewer": {"label": "member"}}


async def test_a_connection_that_stopped_a_search_reads_on(
    tmp_path: Path, slowness: Slowness
) -> None:
    async with slowness.gateway(tmp_path) as gateway:
        with slowness.slow(gateway):
            for _ in range(5):
                assert (await gateway.rest("/contacts", gateway.member, q="a")).status_code == 503
        assert (await gateway.rest("/advertisers/northwind", gateway.member)).status_code == 200


class _Searches:
    """Searches of contacts, which end when the test lets them."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def hold(self, page: Callable[..., Json]) -> Callable[..., Json]:
        def held(*arguments: Json) -> Json:
            self.begun.release()
            assert self.may_end.wait(WATCHDOG_SECONDS)
            return page(*arguments)

        return held


async def _begun_searches(
    gateway: Gateway, searches: _Searches, number: int
) -> list[asyncio.Task[httpx.Response]]:
    tasks = [
        asyncio.create_task(gateway.rest("/contacts", gateway.admin, q="a", page=page))
        for page in range(1, number + 1)
    ]
    for _ in range(MAX_SEARCHES_PER_KEY):
        assert await asyncio.to_thread(searches.begun.acquire, timeout=WATCHDOG_SECONDS)
    return tasks


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> _Searches:
    searches = _Searches()
    monkeypatch.setattr(contacts, "page", searches.hold(contacts.page))
    return searches


@pytest.mark.usefixtures("engine", "stopped_clock")
async def test_searches_of_one_key_wait_for_each_other_and_leave_room_for_others(
    tmp_path: Path, searches: _Searches
) -> None:
    async with running_gateway(tmp_path) as gateway:
        tasks = await _begun_searches(gateway, searches, MAX_SEARCHES_PER_KEY + 2)
        other = await gateway.rest("/advertisers", gateway.member, q="a")
        same = asyncio.create_task(gateway.rest("/advertisers", gateway.admin, q="a"))
        newest = await gateway.rest("/advertisers", gateway.admin)
        lookup = await gateway.rest("/advertisers/1001", gateway.admin)

        assert (other.status_code, newest.status_code, lookup.status_code) == (200, 200, 200)
        assert not any(task.done() for task in (*tasks, same))
        assert not searches.begun.acquire(blocking=False)
        searches.may_end.set()
        answers = await asyncio.gather(*tasks, same)

    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.usefixtures("engine")
async def test_a_search_whose_turn_does_not_come_is_stopped(
    tmp_path: Path, searches: _Searches, stopped_clock: ManualClock
) -> None:
    async with running_gateway(tmp_path) as gateway:
        tasks = await _begun_searches(gateway, searches, MAX_SEARCHES_PER_KEY + 1)
        await stopped_clock.advance(SEARCH_TIMEOUT_SECONDS)
        while not any(task.done() for task in tasks):
            await checkpoint()
        searches.may_end.set()
        answers = await asyncio.gather(*tasks)

    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
