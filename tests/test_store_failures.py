"""The store is full, locked, hanging or overloaded, or the server stops. Nothing is half done.

A full or hanging disk is that of an SQLite file: a PostgreSQL server has its own.
"""

import asyncio
import gc
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.database_url import DatabaseAddress
from contact_gateway.store import contacts
from support.clock import WATCHDOG_SECONDS, ManualClock
from support.databases import locked, plain_connection
from support.faces import FACES, Answer, Face, Json
from support.gateway import Gateway, Store, filled_store, running_gateway
from support.process import GatewayProcess, gateway_process, resident_bytes

pytestmark = pytest.mark.anyio

EVERY_FACE = pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))
MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}
MAX_WAITING: Final = 10
CALLERS: Final = 10 * MAX_WAITING


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


def _check_unavailable(answer: Answer) -> None:
    assert answer.outcome == "SERVICE_UNAVAILABLE"
    if answer.status == 200:
        # MCP answers with a result.
        assert answer.retry_after_seconds == 1
    else:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


def _check_store_is_unchanged(address: DatabaseAddress) -> None:
    with plain_connection(address) as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
        for table in ("contacts", "idempotency_records"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0  # noqa: S608


async def _check_unavailable_on_every_face(gateway: Gateway) -> None:
    submissions = (
        face.submit(gateway, MAYA, gateway.admin, idempotency_key="k") for face in FACES.values()
    )
    for answer in await asyncio.gather(*submissions):
        _check_unavailable(answer)


# Some Pythons leave truncated bytecode where it finds no room (gh-126606).
_NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def _no_room(process: GatewayProcess, store: Store) -> Iterator[None]:
    """Forbid the process files larger than the store's write-ahead log is now."""
    log = store.file.with_name(f"{store.file.name}-wal")
    room = max(log.stat().st_size if log.exists() else 0, 1)
    before = resource.prlimit(process.id, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process.id, resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_makes_the_store_unavailable_until_there_is_room(store: Store) -> None:
    with gateway_process(store.folder, store=store, environment=_NO_BYTECODE) as process:
        async with process.gateway(store) as gateway:
            with _no_room(process, store):
                await _check_unavailable_on_every_face(gateway)
                assert (await gateway.rest("/contacts", gateway.member)).status_code == 200
                assert (await gateway.client.get("/readyz")).status_code == 503
            assert (await gateway.client.get("/readyz")).status_code == 200
            _check_store_is_unchanged(store.address)
            created = await FACES["REST"].submit(gateway, MAYA, gateway.admin)
    assert created.outcome == "CONTACT"


async def test_an_idle_gateway_on_a_full_disk_is_not_ready(store: Store) -> None:
    with gateway_process(store.folder, store=store, environment=_NO_BYTECODE) as process:
        async with process.gateway(store) as gateway:
            with _no_room(process, store):
                assert (await gateway.client.get("/readyz")).status_code == 503
            assert (await gateway.client.get("/readyz")).status_code == 200


@pytest.mark.usefixtures("engine", "impatient_store")
async def test_a_locked_store_is_unavailable_until_the_lock_is_released(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        with locked(gateway.database.address):
            await _check_unavailable_on_every_face(gateway)
        _check_store_is_unchanged(gateway.database.address)
        created = await FACES["GraphQL"].submit(gateway, MAYA, gateway.admin)
    assert created.outcome == "CONTACT"


class Hang:
    """Blocks the thread of each statement, as a hanging disk does."""

    def __init__(self) -> None:
        self._has_begun = threading.Event()
        self._may_continue = threading.Event()
        self._may_continue.set()

    def begin(self) -> None:
        self._has_begun.clear()
        self._may_continue.clear()

    def close(self) -> None:
        """Let the statements continue."""
        self._may_continue.set()

    async def wait_until_hanging(self) -> None:
        """Wait until a statement is blocked."""
        assert await asyncio.to_thread(self._has_begun.wait, WATCHDOG_SECONDS)

    def trace(self, _statement: str) -> None:
        if not self._may_continue.is_set():
            self._has_begun.set()
        self._may_continue.wait()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Hang:
    hang = Hang()
    connect = sqlite3.connect

    def connected(*arguments: Json, **options: Json) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(hang.trace)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    return hang


@EVERY_FACE
async def test_a_hanging_store_is_unavailable_until_it_continues(
    tmp_path: Path, face: Face, hang: Hang, stopped_clock: ManualClock
) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=0) as gateway:
        assert (await face.submit(gateway, MAYA, gateway.admin)).outcome == "CONTACT"
        hang.begin()
        with closing(hang):
            submission = asyncio.create_task(face.submit(gateway, MAYA, gateway.admin))
            await hang.wait_until_hanging()
            await stopped_clock.advance_until_done(submission)
            _check_unavailable(await submission)
            readiness = asyncio.create_task(gateway.client.get("/readyz"))
            await stopped_clock.advance_until_done(readiness)
            assert (await readiness).status_code == 503
            assert (await gateway.client.get("/healthz")).status_code == 200

        assert await _submit_until_available(face, gateway) == "CONFLICT"
        assert await gateway.contact_rows() == 1


async def test_a_retry_after_a_hanging_commit_finds_its_contact(
    tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch, stopped_clock: ManualClock
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
        submission = asyncio.create_task(
            face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
        )
        with closing(hang):
            await hang.wait_until_hanging()
            await stopped_clock.advance_until_done(submission)
            _check_unavailable(await submission)

        assert await _submit_until_available(face, gateway, idempotency_key="k") == "CONTACT"
        assert await gateway.contact_rows() == 1


async def _submit_until_available(
    face: Face, gateway: Gateway, idempotency_key: str | None = None
) -> str:
    while True:
        answer = await face.submit(gateway, MAYA, gateway.admin, idempotency_key=idempotency_key)
        if answer.outcome != "SERVICE_UNAVAILABLE":
            return answer.outcome
        # A refusal does not yield, and the continuing batch needs the event loop.
        await checkpoint()


@pytest.mark.usefixtures("stopped_clock")
async def test_submissions_beyond_the_queue_are_refused_and_memory_stays_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers only after the refusals have arrived, so they wait for nothing."""
    released = threading.Event()
    create = contacts.create

    def create_when_released(*arguments: Json) -> Json:
        released.wait()
        return create(*arguments)

    monkeypatch.setattr(contacts, "create", create_when_released)
    memory = []
    async with running_gateway(tmp_path, rate_limit_per_hour=0, max_waiting=MAX_WAITING) as gateway:
        for crowd in range(3):
            released.clear()
            refused, created = await _submit_a_crowd(gateway, crowd, released)
            assert refused >= CALLERS - 2 * MAX_WAITING
            assert refused + created == CALLERS
            gc.collect()
            memory.append(resident_bytes())

    # The first crowd fills caches.
    assert memory[2] - memory[1] < 8 * 1024 * 1024


async def _submit_a_crowd(
    gateway: Gateway, crowd: int, released: threading.Event
) -> tuple[int, int]:
    """Submit many contacts at once; count the refused and the created ones."""
    pending = {
        asyncio.create_task(
            FACES["REST"].submit(
                gateway, MAYA | {"email": f"{crowd}-{number}@example.com"}, gateway.admin
            )
        )
        for number in range(CALLERS)
    }
    refused = created = 0
    # A batch is with the store, and as many submissions as may wait are behind it.
    while len(pending) > 2 * MAX_WAITING:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for submission in done:
            _check_unavailable(submission.result())
        refused += len(done)
    released.set()
    for answer in await asyncio.gather(*pending):
        if answer.outcome == "CONTACT":
            created += 1
        else:
            _check_unavailable(answer)
            refused += 1
    return refused, created


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stopping_server_answers_every_submission_it_has_accepted(
    store: Store, workers: int
) -> None:
    with gateway_process(store.folder, "--workers", str(workers), store=store) as process:
        answered = await _submit_until_stopped(store, process)
        assert process.exit_status() == 0

    assert answered
    with plain_connection(store.address) as connection:
        stored = {row[0] for row in connection.exec_driver_sql("SELECT email FROM contacts")}
    # Submissions whose connection failed were not begun.
    assert stored == answered


async def _submit_until_stopped(store: Store, process: GatewayProcess) -> set[str]:
    """Submit contacts, one a connection, until no connection is accepted; stop the server."""
    answered: set[str] = set()

    async def submit_without_end(gateway: Gateway, caller: int) -> None:
        face = list(FACES.values())[caller % 2]
        number = 0
        while True:
            email = f"{caller}-{number}@example.com"
            number += 1
            try:
                answer = await face.submit(
                    gateway, {"advertiser_id": 2001, "email": email}, gateway.admin
                )
            except httpx.TransportError:
                return
            assert answer.outcome == "CONTACT"
            answered.add(email)
            if len(answered) == 60:
                process.send(signal.SIGTERM)

    async with process.gateway(store, keep_alive=False) as gateway:
        await asyncio.gather(*(submit_without_end(gateway, caller) for caller in range(8)))
    return answered
