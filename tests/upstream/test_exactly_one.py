"""One contact for each idempotency key, whatever fails between the gateway and upstream."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
import pytest
from sqlalchemy import select, update

from contact_gateway.store.tables import attempts
from support.databases import locked, plain_connection
from support.faces import FACES, Answer, Face, Json
from support.gateway import Gateway, empty_store, ledger_address, running_gateway
from support.process import GatewayProcess, gateway_process
from support.proxy import Fault, FaultyProxy
from support.upstream import UpstreamGateway

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("engine")]

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}
NOOR: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "noor@example.com"}
REST, GRAPHQL = FACES["REST"], FACES["GraphQL"]
EITHER_FACE_FIRST = pytest.mark.parametrize(
    ("face", "other_face"),
    [(REST, GRAPHQL), (GRAPHQL, REST)],
    ids=["REST, then GraphQL", "GraphQL, then REST"],
)
LOST = pytest.mark.parametrize(
    "lost",
    [Fault.DROP_RESPONSE, Fault.TRUNCATE_RESPONSE, Fault.CORRUPT_RESPONSE],
    ids=lambda fault: fault.name.lower().replace("_", " "),
)


@pytest.fixture
def proxy(upstream: UpstreamGateway) -> Iterator[FaultyProxy]:
    with FaultyProxy(upstream.url).running() as running:
        yield running


@pytest.fixture
async def gateway(
    tmp_path: Path, upstream: UpstreamGateway, proxy: FaultyProxy
) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path, upstream.store, upstream_url=proxy.url) as running:
        yield running


def _attempts(folder: Path) -> list[str | None]:
    """Return the contact of each attempt in the ledger; None where there was no answer."""
    with plain_connection(ledger_address(folder)) as connection:
        return list(connection.scalars(select(attempts.c.contact)))


def _end_hold(folder: Path) -> None:
    """Let the time pass for which the ledger holds an attempt."""
    with plain_connection(ledger_address(folder)) as connection:
        connection.execute(update(attempts).values(held_until=attempts.c.sent_at))


@LOST
@EITHER_FACE_FIRST
async def test_a_repeat_after_a_lost_answer_finds_the_contact(
    gateway: Gateway,
    upstream: UpstreamGateway,
    proxy: FaultyProxy,
    lost: Fault,
    face: Face,
    other_face: Face,
) -> None:
    proxy.inject(lost)
    first = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    second = await other_face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    third = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    # The status of a cut or corrupt answer says that the contact was created, so a list names it.
    assert first.outcome == ("OUTCOME_UNKNOWN" if lost is Fault.DROP_RESPONSE else "CONTACT")
    assert second.outcome == "CONTACT"
    assert third == second
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


@LOST
async def test_another_input_after_a_lost_answer_is_refused_where_the_contact_was_made(
    gateway: Gateway, upstream: UpstreamGateway, proxy: FaultyProxy, lost: Fault
) -> None:
    proxy.inject(lost)
    await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    other = await GRAPHQL.submit(gateway, NOOR, gateway.admin, idempotency_key="k")

    assert other.outcome == "IDEMPOTENCY_KEY_REUSED"
    assert upstream.contacts() == 1


async def test_a_repeat_is_sent_again_only_where_hienergy_is_known_to_refuse_duplicates(
    upstream: UpstreamGateway, proxy: FaultyProxy, tmp_path: Path
) -> None:
    def in_front_of_it(known: str) -> AbstractAsyncContextManager[Gateway]:
        return running_gateway(
            tmp_path, upstream.store, upstream_url=proxy.url, upstream_refuses_duplicates=known
        )

    async with in_front_of_it("unknown") as gateway:
        proxy.inject(Fault.TIME_OUT)
        first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
        proxy.drop()
        _end_hold(tmp_path)
        second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    assert (first.outcome, second.outcome) == ("OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN")
    assert (proxy.creations(), upstream.contacts()) == (1, 0)

    async with in_front_of_it("yes") as gateway:
        third = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    assert third.outcome == "CONTACT"
    assert (proxy.creations(), upstream.contacts()) == (2, 1)


async def test_a_request_that_arrives_after_its_timeout_is_not_duplicated(
    gateway: Gateway, upstream: UpstreamGateway, proxy: FaultyProxy
) -> None:
    proxy.inject(Fault.TIME_OUT)
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.release()
    await asyncio.to_thread(proxy.wait_until_forwarded)
    second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert (first.outcome, second.outcome) == ("OUTCOME_UNKNOWN", "CONTACT")
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_concurrent_callers_with_one_key_make_one_call(
    gateway: Gateway, upstream: UpstreamGateway, proxy: FaultyProxy
) -> None:
    proxy.inject(Fault.HOLD_RESPONSE)
    callers = _callers(gateway)
    await asyncio.to_thread(proxy.wait_until_held)
    proxy.release()
    answers = await asyncio.gather(*callers)

    _check_one_contact(answers)
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_concurrent_callers_of_two_gateways_with_one_ledger_make_one_call(
    gateway: Gateway, upstream: UpstreamGateway, proxy: FaultyProxy, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, upstream.store, upstream_url=proxy.url) as other_gateway:
        proxy.inject(Fault.HOLD_RESPONSE)
        callers = [*_callers(gateway), *_callers(other_gateway)]
        await asyncio.to_thread(proxy.wait_until_held)
        proxy.release()
        answers = await asyncio.gather(*callers)

    _check_one_contact(answers)
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


def _callers(gateway: Gateway) -> list[asyncio.Task[Answer]]:
    return [
        asyncio.create_task(face.submit(gateway, MAYA, gateway.admin, idempotency_key="k"))
        for face in FACES.values()
        for _ in range(5)
    ]


def _check_one_contact(answers: list[Answer]) -> None:
    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)


async def test_a_creation_continues_after_its_caller_has_disconnected(
    gateway: Gateway, upstream: UpstreamGateway, proxy: FaultyProxy
) -> None:
    proxy.inject(Fault.HOLD_RESPONSE)
    caller = asyncio.create_task(REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k"))
    await asyncio.to_thread(proxy.wait_until_held)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    proxy.release()
    repeated = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert repeated.outcome == "CONTACT"
    assert (proxy.creations(), upstream.contacts()) == (1, 1)


async def test_a_replay_needs_a_key_that_is_still_valid(
    tmp_path: Path, upstream: UpstreamGateway
) -> None:
    created = await _submit_as_other_admin(tmp_path, upstream)
    _set_revoked(upstream, "CURRENT_TIMESTAMP")
    try:
        # A new process has no cached keys.
        with gateway_process(tmp_path, store=upstream.store) as process:
            restarted = replace(upstream, url=f"{process.address}/api/v1")
            refused = await _submit_as_other_admin(tmp_path, restarted)
    finally:
        _set_revoked(upstream, "NULL")

    assert created.outcome == "CONTACT"
    assert refused.outcome == "UNAUTHORIZED"


async def _submit_as_other_admin(folder: Path, upstream: UpstreamGateway) -> Answer:
    async with running_gateway(folder, upstream.store, upstream_url=upstream.url) as gateway:
        return await REST.submit(gateway, MAYA, gateway.other_admin, idempotency_key="k")


def _set_revoked(upstream: UpstreamGateway, moment: str) -> None:
    with plain_connection(upstream.store.address) as connection:
        connection.exec_driver_sql(
            f"UPDATE api_keys SET revoked_at = {moment} WHERE label = 'other_admin'"  # noqa: S608
        )


async def test_a_replay_needs_upstream_to_accept_the_credential(
    gateway: Gateway, proxy: FaultyProxy
) -> None:
    first = await REST.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    proxy.inject(Fault.DROP_RESPONSE, method="GET")
    second = await GRAPHQL.submit(gateway, MAYA, gateway.admin, idempotency_key="k")

    assert (first.outcome, second.outcome) == ("CONTACT", "SERVICE_UNAVAILABLE")


async def test_nothing_is_sent_where_the_ledger_fails(
    gateway: Gateway, tmp_path: Path, proxy: FaultyProxy
) -> None:
    with plain_connection(ledger_address(tmp_path)) as connection:
        connection.exec_driver_sql("ALTER TABLE attempts RENAME TO elsewhere")
    response = await gateway.client.post(
        "/api/v1/contacts",
        json={"contact": MAYA},
        headers={"X-Api-Key": gateway.admin, "Idempotency-Key": "k"},
    )

    assert response.status_code == 503
    assert proxy.creations() == 0


async def test_the_ledger_holds_no_credential_and_no_idempotency_key(
    gateway: Gateway, tmp_path: Path
) -> None:
    key = "an-idempotency-key"
    await REST.submit(gateway, MAYA, gateway.admin, idempotency_key=key)
    with plain_connection(ledger_address(tmp_path)) as connection:
        stored = b"".join(
            value if isinstance(value, bytes) else str(value).encode()
            for value in connection.execute(select(attempts)).one()
        )

    assert b"maya@example.com" in stored
    assert key.encode() not in stored
    assert gateway.admin.encode() not in stored


async def test_without_an_idempotency_key_the_ledger_stays_empty(
    gateway: Gateway, tmp_path: Path
) -> None:
    await REST.submit(gateway, MAYA, gateway.admin)

    assert _attempts(tmp_path) == []


class TestAKilledGateway:
    """A process is killed at a point of two creations; then another gateway opens its ledger.

    Each face submits a contact, and retries the contact of the other face.
    """

    @pytest.fixture
    def process(
        self, tmp_path: Path, upstream: UpstreamGateway, proxy: FaultyProxy
    ) -> Iterator[GatewayProcess]:
        environment = {
            "CONTACT_GATEWAY_UPSTREAM_URL": proxy.url,
            "CONTACT_GATEWAY_UPSTREAM_TIMEOUT_SECONDS": "60",
        }
        ledger = empty_store(tmp_path, upstream.keys)
        with gateway_process(tmp_path, store=ledger, environment=environment) as process:
            yield process

    async def test_before_the_call_arrives(
        self,
        tmp_path: Path,
        process: GatewayProcess,
        upstream: UpstreamGateway,
        proxy: FaultyProxy,
    ) -> None:
        proxy.inject(Fault.HOLD_REQUEST)
        async with _submitting(process, upstream) as submissions:
            await asyncio.to_thread(proxy.wait_until_held, 2)
            await _kill(process, submissions)
        assert _attempts(tmp_path) == [None, None]
        proxy.drop()
        _end_hold(tmp_path)

        async with running_gateway(tmp_path, upstream.store, upstream_url=proxy.url) as gateway:
            for contact in (MAYA, NOOR):
                retried = await REST.submit(
                    gateway, contact, gateway.admin, idempotency_key=contact["email"]
                )
                assert retried.outcome == "OUTCOME_UNKNOWN"
        assert (proxy.creations(), upstream.contacts()) == (2, 0)

    async def test_after_upstream_has_created_and_before_it_answers(
        self,
        tmp_path: Path,
        process: GatewayProcess,
        upstream: UpstreamGateway,
        proxy: FaultyProxy,
    ) -> None:
        proxy.inject(Fault.HOLD_RESPONSE)
        async with _submitting(process, upstream) as submissions:
            await asyncio.to_thread(proxy.wait_until_held, 2)
            await _kill(process, submissions)
        assert upstream.contacts() == 2
        proxy.release()
        _end_hold(tmp_path)

        await _check_retries(tmp_path, upstream, proxy)
        assert proxy.creations() == 2

    async def test_after_the_answer_and_before_it_is_in_the_ledger(
        self,
        tmp_path: Path,
        process: GatewayProcess,
        upstream: UpstreamGateway,
        proxy: FaultyProxy,
    ) -> None:
        proxy.inject(Fault.HOLD_RESPONSE)
        async with _submitting(process, upstream) as submissions:
            await asyncio.to_thread(proxy.wait_until_held, 2)
            with locked(ledger_address(tmp_path)):
                proxy.release()
                await asyncio.to_thread(proxy.wait_until_answered, 2)
                await _kill(process, submissions)
        assert _attempts(tmp_path) == [None, None]
        _end_hold(tmp_path)

        await _check_retries(tmp_path, upstream, proxy)
        assert proxy.creations() == 2

    async def test_after_the_answer_is_in_the_ledger(
        self,
        tmp_path: Path,
        process: GatewayProcess,
        upstream: UpstreamGateway,
        proxy: FaultyProxy,
    ) -> None:
        async with _submitting(process, upstream) as submissions:
            answers = await asyncio.gather(*submissions)
        process.stop(signal.SIGKILL)
        assert [answer.outcome for answer in answers] == ["CONTACT", "CONTACT"]

        retried = await _check_retries(tmp_path, upstream, proxy)
        assert retried == answers
        assert proxy.creations() == 2


@asynccontextmanager
async def _submitting(
    process: GatewayProcess, upstream: UpstreamGateway
) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """Submit a contact on each face of a process."""
    async with process.gateway(upstream.store) as gateway:
        yield [
            asyncio.create_task(
                face.submit(gateway, contact, gateway.admin, idempotency_key=contact["email"])
            )
            for face, contact in ((REST, MAYA), (GRAPHQL, NOOR))
        ]


async def _kill(process: GatewayProcess, submissions: list[asyncio.Task[Answer]]) -> None:
    await asyncio.to_thread(process.stop, signal.SIGKILL)
    for submission in submissions:
        with pytest.raises(httpx.TransportError):
            await submission


async def _check_retries(
    folder: Path, upstream: UpstreamGateway, proxy: FaultyProxy
) -> list[Answer]:
    """Open the ledger in another gateway, and retry both submissions twice."""
    retried = []
    async with running_gateway(folder, upstream.store, upstream_url=proxy.url) as gateway:
        for face, contact in ((GRAPHQL, MAYA), (REST, NOOR)):
            first, second = [
                await face.submit(gateway, contact, gateway.admin, idempotency_key=contact["email"])
                for _ in range(2)
            ]
            assert first.outcome == "CONTACT"
            assert second == first
            retried.append(first)
    assert upstream.contacts() == 2
    return retried
