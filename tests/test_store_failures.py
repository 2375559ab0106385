"""The store fails: full, locked, hanging, swamped, or told to stop. Nothing is half done."""

import asyncio
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.store import contacts, group_commit, sqlite
from support.gateway_process import GatewayProcess
from support.resident_memory import resident_bytes
from support.running_gateway import Gateway, running_gateway
from support.served_gateway import Store
from support.submitting import FACES, Answer, Face, Json

BOTH_FACES = pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))
LONGEST_SECONDS: Final = 15
MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.filled(tmp_path)


def _submit(
    store: Store,
    process: GatewayProcess,
    face: Face,
    contact: dict[str, Json],
    key: str = "k",
) -> Answer:
    async def submit() -> Answer:
        async with store.gateway(process) as gateway:
            return await face.submit(gateway, contact, gateway.admin, idempotency_key=key)

    return asyncio.run(submit())


def _check_unavailable(told: Answer, began: float) -> None:
    assert told.outcome == "SERVICE_UNAVAILABLE"
    assert told.status == 503
    assert int(told.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < LONGEST_SECONDS


def _check_nothing_is_half_done(store: Store) -> None:
    with closing(sqlite3.connect(store.file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM contacts").fetchall() == [(0,)]
        assert connection.execute("SELECT count(*) FROM idempotency_records").fetchall() == [(0,)]


@contextmanager
def _no_more_room(process: GatewayProcess, store: Store) -> Iterator[None]:
    """Let no file of the process's grow beyond what the store's log has."""
    log = store.file.with_name(f"{store.file.name}-wal")
    room = max(log.stat().st_size if log.exists() else 0, 1)
    before = resource.prlimit(process.id, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process.id, resource.RLIMIT_FSIZE, before)


def test_a_store_without_room_is_unavailable_until_there_is_some(store: Store) -> None:
    with store.served() as process:
        with _no_more_room(process, store):
            _check_unavailable_on_both_faces(store, process)
            reading = httpx.get(
                f"{process.address}/api/v1/contacts", headers={"X-Api-Key": store.keys["member"]}
            )
            assert reading.status_code == 200
        _check_nothing_is_half_done(store)
        assert _submit(store, process, FACES["REST"], MAYA).outcome == "CONTACT"


def test_a_store_that_another_process_has_locked_is_unavailable_until_it_is_free(
    store: Store,
) -> None:
    with store.served() as process:
        with closing(sqlite3.connect(store.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            _check_unavailable_on_both_faces(store, process)
            other.execute("ROLLBACK")
        _check_nothing_is_half_done(store)
        assert _submit(store, process, FACES["GraphQL"], MAYA).outcome == "CONTACT"


def _check_unavailable_on_both_faces(store: Store, process: GatewayProcess) -> None:
    async def submit() -> list[Answer]:
        async with store.gateway(process) as gateway:
            return await asyncio.gather(
                *(
                    face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
                    for face in FACES.values()
                )
            )

    began = time.monotonic()
    for told in asyncio.run(submit()):
        _check_unavailable(told, began)


class Hang:
    """Hangs every statement of a database in its own thread, as a disk that hangs does."""

    def __init__(self) -> None:
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def begin(self) -> None:
        self._may_go_on.clear()

    def end(self) -> None:
        self._may_go_on.set()

    def trace(self, _statement: str) -> None:
        self._may_go_on.wait()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    hang = Hang()
    connect = sqlite3.connect

    def connected(*arguments: Json, **options: Json) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(hang.trace)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    monkeypatch.setattr(sqlite, "ANSWER_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(group_commit, "ANSWER_TIMEOUT_SECONDS", 0.2)
    yield hang
    hang.end()


@pytest.mark.anyio
@BOTH_FACES
async def test_a_store_that_hangs_is_unavailable_until_it_goes_on(
    tmp_path: Path, face: Face, hang: Hang
) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=0) as gateway:
        assert (await face.submit(gateway, MAYA, gateway.admin)).outcome == "CONTACT"
        hang.begin()
        began = time.monotonic()
        told = await face.submit(gateway, MAYA, gateway.admin)
        _check_unavailable(told, began)
        assert (await gateway.client.get("/readyz")).status_code == 503
        assert (await gateway.client.get("/healthz")).status_code == 200
        hang.end()

        assert await _once_available(face, gateway, MAYA) == "CONFLICT"
        assert await gateway.contact_rows() == 1


@pytest.mark.anyio
async def test_a_commit_that_hangs_keeps_nobody_and_a_repeat_finds_what_came_of_it(
    tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = FACES["REST"]
    create, calls = contacts.create, count()

    def create_and_hang_once(*arguments: Json) -> Json:
        outcomes = create(*arguments)
        if next(calls) == 0:
            hang.begin()
        return outcomes

    monkeypatch.setattr(contacts, "create", create_and_hang_once)
    async with running_gateway(tmp_path, rate_limit_per_hour=0) as gateway:
        told = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
        assert told.outcome == "SERVICE_UNAVAILABLE"
        hang.end()

        again = await _once_available(face, gateway, MAYA, idempotency_key="k")
        assert again == "CONTACT"
        assert await gateway.contact_rows() == 1


async def _once_available(
    face: Face, gateway: Gateway, contact: dict[str, Json], idempotency_key: str | None = None
) -> str:
    """Submit until the store is there again."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            told = await face.submit(
                gateway, contact, gateway.admin, idempotency_key=idempotency_key
            )
            if told.outcome != "SERVICE_UNAVAILABLE":
                return told.outcome
            # A refusal waits for nothing, and what goes on needs the event loop, too.
            await checkpoint()


def test_too_many_that_wait_are_turned_away_and_memory_stays_flat(store: Store) -> None:
    """Ten times as many as may wait come while the store is locked, again and again."""
    with store.served(CONTACT_GATEWAY_MAX_WAITING="30") as process:
        assert _submit(store, process, FACES["REST"], MAYA).outcome == "CONTACT"
        grown = []
        with closing(sqlite3.connect(store.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                at_once, later = asyncio.run(_swamp(store, process, 300))
                assert at_once > 100
                assert at_once + later == 300
                grown.append(resident_bytes(process.id))
            other.execute("ROLLBACK")
        after = MAYA | {"email": "after@example.com"}
        assert _submit(store, process, FACES["GraphQL"], after, key="k2").outcome == "CONTACT"

    assert grown[1] - grown[0] < 8 * 1024 * 1024


async def _swamp(store: Store, process: GatewayProcess, callers: int) -> tuple[int, int]:
    """Submit all at once; count those who were turned away at once, and those later."""

    async def submit(gateway: Gateway, number: int) -> float:
        began = time.monotonic()
        contact = MAYA | {"email": f"{number}@example.com"}
        response = await gateway.post_json(
            "/api/v1/contacts", {"contact": contact}, {"X-Api-Key": gateway.admin}
        )
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        return time.monotonic() - began

    async with store.gateway(process) as gateway:
        times = await asyncio.gather(*(submit(gateway, number) for number in range(callers)))
    assert max(times) < LONGEST_SECONDS
    at_once = sum(seconds < sqlite.BUSY_TIMEOUT_SECONDS / 2 for seconds in times)
    return at_once, callers - at_once


@pytest.mark.parametrize("workers", [1, 2])
def test_who_was_accepted_is_answered_though_the_server_is_told_to_stop(
    store: Store, workers: int
) -> None:
    with store.served("--workers", str(workers)) as process:
        answered = asyncio.run(_until_stopped(store, process))
        assert process.exit_status() == 0

    assert answered
    with closing(sqlite3.connect(store.file)) as connection:
        stored = {row[0] for row in connection.execute("SELECT email FROM contacts")}
    # Who came to a door that was just closing is told by that: nothing of theirs was begun.
    assert stored == answered


async def _until_stopped(store: Store, process: GatewayProcess) -> set[str]:
    """Submit, each on a connection of its own, until none is taken; stop the server meanwhile."""
    answered: set[str] = set()

    async def submit_without_end(gateway: Gateway, caller: int) -> None:
        face = list(FACES.values())[caller % 2]
        number = 0
        while True:
            email = f"{caller}-{number}@example.com"
            number += 1
            try:
                told = await face.submit(
                    gateway, {"advertiser_id": 2001, "email": email}, gateway.admin
                )
            except httpx.TransportError:
                return
            assert told.outcome == "CONTACT"
            answered.add(email)
            if len(answered) == 60:
                process.send(signal.SIGTERM)

    async with store.gateway(process, keep_alive=False) as gateway:
        await asyncio.gather(*(submit_without_end(gateway, caller) for caller in range(8)))
    return answered
