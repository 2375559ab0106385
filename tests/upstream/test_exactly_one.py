"""One contact for each idempotency key, whatever breaks between the gateway and upstream."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
import pytest

from support.chained_gateways import UpstreamGateway, gateway_in_front
from support.gateway_process import GatewayProcess, gateway_process
from support.running_gateway import Gateway
from support.served_gateway import gateway_of
from support.spoiling_proxy import Spoiling, SpoilingProxy
from support.submitting import FACES, Answer, Face

pytestmark = pytest.mark.anyio

MAYA: Final = {"advertiser_id": 2001, "email": "maya@example.com"}
NOOR: Final = {"advertiser_id": 2001, "email": "noor@example.com"}
REST, GRAPHQL = FACES["REST"], FACES["GraphQL"]
EITHER_FACE_FIRST = pytest.mark.parametrize(
    ("face", "other_face"),
    [(REST, GRAPHQL), (GRAPHQL, REST)],
    ids=["REST, then GraphQL", "GraphQL, then REST"],
)
LOST = pytest.mark.parametrize(
    "lost",
    [Spoiling.CUT_BEFORE_ANSWER, Spoiling.CUT_IN_ANSWER, Spoiling.GARBLE_ANSWER],
    ids=lambda spoiling: spoiling.name.lower().replace("_", " "),
)


@pytest.fixture
def proxy(upstream: UpstreamGateway) -> Iterator[SpoilingProxy]:
    with SpoilingProxy(upstream.url).running() as running:
        yield running


@pytest.fixture
async def gateway(
    tmp_path: Path, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> AsyncIterator[Gateway]:
    async with gateway_in_front(
        tmp_path, upstream, proxy.url, upstream_timeout_seconds=1
    ) as running:
        yield running


@LOST
@EITHER_FACE_FIRST
async def test_a_repeat_after_a_lost_answer_finds_the_contact(
    gateway: Gateway,
    upstream: UpstreamGateway,
    proxy: SpoilingProxy,
    lost: Spoiling,
    face: Face,
    other_face: Face,
) -> None:
    proxy.spoil(lost)
    first = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    second = await other_face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    third = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert first.outcome == "SERVICE_UNAVAILABLE"
    assert second.outcome == "CONTACT"
    assert third == second
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


@LOST
async def test_another_input_after_a_lost_answer_is_refused_where_the_contact_was_made(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy, lost: Spoiling
) -> None:
    proxy.spoil(lost)
    await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    other = await GRAPHQL.submit(gateway, NOOR, gateway.admin, idempotency_key="k")

    assert other.outcome == "IDEMPOTENCY_KEY_REUSED"
    assert upstream.contacts() == 1


async def test_another_input_may_follow_where_nothing_was_made(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> None:
    proxy.spoil(Spoiling.HOLD_REQUEST)
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.drop()
    other = await GRAPHQL.submit(gateway, NOOR, gateway.admin, idempotency_key="k")
    back = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert (first.outcome, other.outcome) == ("SERVICE_UNAVAILABLE", "CONTACT")
    assert back.outcome == "IDEMPOTENCY_KEY_REUSED"
    assert upstream.contacts() == 1


async def test_a_request_that_arrives_after_it_was_given_up_is_not_doubled(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> None:
    proxy.spoil(Spoiling.HOLD_REQUEST)
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert (first.outcome, second.outcome) == ("SERVICE_UNAVAILABLE", "CONTACT")
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_a_contact_that_was_there_before_is_no_replay(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> None:
    await REST.submit(gateway, MAYA, gateway.other_admin)
    with closing(sqlite3.connect(upstream.file)) as connection, connection:
        connection.execute("UPDATE contacts SET created_at = '2026-01-31 12:00:00.000000'")
    proxy.spoil(Spoiling.CUT_IN_ANSWER)
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert (first.outcome, second.outcome) == ("SERVICE_UNAVAILABLE", "CONFLICT")
    assert upstream.contacts() == 1


async def test_concurrent_callers_with_one_key_make_one_call(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> None:
    proxy.spoil(Spoiling.HOLD_ANSWER)
    callers = _callers(gateway)
    await asyncio.to_thread(proxy.wait_until_held)
    proxy.release()
    answers = await asyncio.gather(*callers)

    _check_that_all_got_one_contact(answers)
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_concurrent_callers_of_two_gateways_with_one_ledger_make_one_call(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy, tmp_path: Path
) -> None:
    async with gateway_in_front(
        tmp_path, upstream, proxy.url, upstream_timeout_seconds=1
    ) as other_gateway:
        proxy.spoil(Spoiling.HOLD_ANSWER)
        callers = [*_callers(gateway), *_callers(other_gateway)]
        await asyncio.to_thread(proxy.wait_until_held)
        proxy.release()
        answers = await asyncio.gather(*callers)

    _check_that_all_got_one_contact(answers)
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


def _callers(gateway: Gateway) -> list[asyncio.Task[Answer]]:
    return [
        asyncio.create_task(face.submit(gateway, MAYA, gateway.admin, idempotency_key="k"))
        for face in FACES.values()
        for _ in range(5)
    ]


def _check_that_all_got_one_contact(answers: list[Answer]) -> None:
    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)


async def test_a_caller_who_goes_away_leaves_the_creation_to_be_finished(
    gateway: Gateway, upstream: UpstreamGateway, proxy: SpoilingProxy
) -> None:
    proxy.spoil(Spoiling.HOLD_ANSWER)
    caller = asyncio.create_task(REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k"))
    await asyncio.to_thread(proxy.wait_until_held)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    proxy.release()
    repeated = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert repeated.outcome == "CONTACT"
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_a_replay_goes_to_who_is_still_let_in(
    tmp_path: Path, upstream: UpstreamGateway
) -> None:
    created = await _submit_as_other_admin(tmp_path, upstream)
    _set_revoked(upstream, "CURRENT_TIMESTAMP")
    try:
        with _started_anew(tmp_path, upstream) as again:
            refused = await _submit_as_other_admin(tmp_path, again)
    finally:
        _set_revoked(upstream, "NULL")

    assert created.outcome == "CONTACT"
    assert refused.outcome == "UNAUTHORIZED"


async def _submit_as_other_admin(tmp_path: Path, upstream: UpstreamGateway) -> Answer:
    async with gateway_in_front(tmp_path, upstream) as gateway:
        return await REST.submit(gateway, MAYA, gateway.other_admin, idempotency_key="k")


@contextmanager
def _started_anew(folder: Path, upstream: UpstreamGateway) -> Iterator[UpstreamGateway]:
    """Serve the upstream's store by a process that has no keys at hand from before."""
    environment = {"CONTACT_GATEWAY_DATABASE_URL": upstream.database_url}
    with gateway_process(folder, environment=environment) as process:
        yield replace(upstream, url=f"{process.address}/api/v1")


def _set_revoked(upstream: UpstreamGateway, moment: str) -> None:
    with closing(sqlite3.connect(upstream.file)) as connection, connection:
        connection.execute(
            f"UPDATE api_keys SET revoked_at = {moment} WHERE label = 'other_admin'"  # noqa: S608
        )


async def test_a_replay_does_not_need_an_upstream_that_answers(
    gateway: Gateway, proxy: SpoilingProxy
) -> None:
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.spoil(Spoiling.CUT_BEFORE_ANSWER, only="GET")
    second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert first.outcome == "CONTACT"
    assert second == first


async def test_nothing_is_sent_that_the_ledger_does_not_know(
    gateway: Gateway, tmp_path: Path, proxy: SpoilingProxy
) -> None:
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as connection, connection:
        connection.execute("ALTER TABLE attempts RENAME TO elsewhere")
        connection.commit()
        response = await gateway.client.post(
            "/api/v1/contacts",
            json={"contact": MAYA},
            headers={"X-Api-Key": gateway.admin, "Idempotency-Key": "k"},
        )

    assert response.status_code == 500
    assert proxy.creations() == 0


async def test_the_ledger_holds_no_credential_and_no_idempotency_key(
    gateway: Gateway, tmp_path: Path
) -> None:
    key = "an-idempotency-key"
    await REST.submit(gateway, MAYA, gateway.admin, idempotency_key=key)
    kept = _bytes_kept(tmp_path)

    assert b"maya@example.com" in kept
    assert key.encode() not in kept
    assert gateway.admin.encode() not in kept


async def test_without_a_key_nothing_is_kept(gateway: Gateway, tmp_path: Path) -> None:
    await REST.submit(gateway, MAYA, gateway.admin)

    assert _attempts(tmp_path) == []


def _in_front(
    process: GatewayProcess, upstream: UpstreamGateway
) -> AbstractAsyncContextManager[Gateway]:
    """Talk to a process in front of upstream."""
    return gateway_of(process, upstream.database_url, upstream.keys)


class TestAKilledGateway:
    """The process is killed at a point of a creation, and started again on its ledger."""

    @pytest.fixture
    def environment(self, proxy: SpoilingProxy) -> dict[str, str]:
        return {
            "CONTACT_GATEWAY_UPSTREAM_URL": proxy.url,
            "CONTACT_GATEWAY_UPSTREAM_TIMEOUT_SECONDS": "1",
        }

    @EITHER_FACE_FIRST
    async def test_before_the_call_arrives(
        self,
        tmp_path: Path,
        environment: dict[str, str],
        upstream: UpstreamGateway,
        proxy: SpoilingProxy,
        face: Face,
        other_face: Face,
    ) -> None:
        proxy.spoil(Spoiling.HOLD_REQUEST)
        with gateway_process(tmp_path, environment=environment) as process:
            caller = await self._submit_until_held(process, upstream, proxy, face)
            await self._kill(process, caller)
        assert _attempts(tmp_path) == [None]
        proxy.drop()

        await self._check_a_repeat(tmp_path, environment, upstream, other_face)
        assert proxy.creations() == 2

    @EITHER_FACE_FIRST
    async def test_while_upstream_has_created_and_not_answered(
        self,
        tmp_path: Path,
        environment: dict[str, str],
        upstream: UpstreamGateway,
        proxy: SpoilingProxy,
        face: Face,
        other_face: Face,
    ) -> None:
        proxy.spoil(Spoiling.HOLD_ANSWER)
        with gateway_process(tmp_path, environment=environment) as process:
            caller = await self._submit_until_held(process, upstream, proxy, face)
            await self._kill(process, caller)
        assert upstream.contacts() == 1
        proxy.release()

        await self._check_a_repeat(tmp_path, environment, upstream, other_face)
        assert proxy.creations() == 1

    @EITHER_FACE_FIRST
    async def test_after_the_answer_and_before_the_ledger_is_closed(
        self,
        tmp_path: Path,
        environment: dict[str, str],
        upstream: UpstreamGateway,
        proxy: SpoilingProxy,
        face: Face,
        other_face: Face,
    ) -> None:
        proxy.spoil(Spoiling.HOLD_ANSWER)
        with gateway_process(tmp_path, environment=environment) as process:
            caller = await self._submit_until_held(process, upstream, proxy, face)
            with closing(_ledger(tmp_path)) as ledger:
                ledger.execute("BEGIN IMMEDIATE")
                proxy.release()
                await asyncio.to_thread(proxy.wait_until_passed)
                await self._kill(process, caller)
                ledger.execute("ROLLBACK")
        assert _attempts(tmp_path) == [None]

        await self._check_a_repeat(tmp_path, environment, upstream, other_face)
        assert proxy.creations() == 1

    @EITHER_FACE_FIRST
    async def test_after_the_ledger_is_closed(
        self,
        tmp_path: Path,
        environment: dict[str, str],
        upstream: UpstreamGateway,
        proxy: SpoilingProxy,
        face: Face,
        other_face: Face,
    ) -> None:
        with gateway_process(tmp_path, environment=environment) as process:
            async with _in_front(process, upstream) as gateway:
                told = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
            process.send(signal.SIGKILL)
            process.exit_status()
        assert told.outcome == "CONTACT"

        again = await self._check_a_repeat(tmp_path, environment, upstream, other_face)
        assert again == told
        assert proxy.creations() == 1

    async def _submit_until_held(
        self,
        process: GatewayProcess,
        upstream: UpstreamGateway,
        proxy: SpoilingProxy,
        face: Face,
    ) -> asyncio.Task[Answer]:
        async def submit() -> Answer:
            async with _in_front(process, upstream) as gateway:
                return await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

        caller = asyncio.create_task(submit())
        await asyncio.to_thread(proxy.wait_until_held)
        return caller

    async def _kill(self, process: GatewayProcess, caller: asyncio.Task[Answer]) -> None:
        process.send(signal.SIGKILL)
        await asyncio.to_thread(process.exit_status)
        with pytest.raises(httpx.TransportError):
            await caller

    async def _check_a_repeat(
        self,
        folder: Path,
        environment: dict[str, str],
        upstream: UpstreamGateway,
        face: Face,
    ) -> Answer:
        """Start the gateway again on its ledger, and repeat the submission."""
        with gateway_process(folder, environment=environment) as process:
            async with _in_front(process, upstream) as gateway:
                repeated = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
                again = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
        assert repeated.outcome == "CONTACT"
        assert again == repeated
        assert upstream.contacts() == 1
        return repeated


def _bytes_kept(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("gateway.sqlite3*"))


def _ledger(folder: Path) -> sqlite3.Connection:
    """Open the ledger of the gateway that runs in a folder."""
    (file,) = folder.glob("*.sqlite3")
    return sqlite3.connect(file, timeout=30, isolation_level=None)


def _attempts(folder: Path) -> list[str | None]:
    """Return what the ledger knows: for each attempt the contact, None without an answer."""
    with closing(_ledger(folder)) as connection:
        return [contact for (contact,) in connection.execute("SELECT contact FROM attempts")]
