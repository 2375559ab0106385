"""Two gateways on one PostgreSQL database, as on two hosts, give the guarantees of one."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import psycopg
import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, databases_on
from support.faces import FACES, Answer, Json
from support.gateway import Store, filled_store
from support.process import GatewayProcess, gateway_process

CALLERS: Final = 24


class Hosts(NamedTuple):
    """Two running gateways, and the database that they share."""

    store: Store
    processes: tuple[GatewayProcess, GatewayProcess]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    with databases_on(Engine.POSTGRESQL):
        store = filled_store(first)
        with (
            gateway_process(first, store=store) as one,
            gateway_process(second, store=store) as other,
        ):
            yield Hosts(store, (one, other))


async def _submit(
    hosts: Hosts, contacts: Sequence[dict[str, Json]], key: str | None
) -> tuple[list[Answer], int]:
    """Submit all contacts at once, to the hosts in turn; return the answers and the new rows."""
    faces = [FACES["REST"], FACES["GraphQL"]]
    async with AsyncExitStack() as clients:
        gateways = [
            await clients.enter_async_context(process.gateway(hosts.store))
            for process in hosts.processes
        ]
        before = await gateways[0].contact_rows()
        answers = await asyncio.gather(
            *(
                faces[number // 2 % 2].submit(
                    gateways[number % 2],
                    contact,
                    hosts.store.keys["admin"],
                    idempotency_key=key,
                )
                for number, contact in enumerate(contacts)
            )
        )
        return answers, await gateways[0].contact_rows() - before


def test_one_address_from_both_hosts_creates_one_contact(hosts: Hosts) -> None:
    contact: dict[str, Json] = {"advertiser_id": 2001, "email": "one@example.com"}
    answers, rows = asyncio.run(_submit(hosts, [contact] * CALLERS, None))

    assert Counter(answer.outcome for answer in answers) == {"CONTACT": 1, "CONFLICT": CALLERS - 1}
    assert len({answer.contact["id"] for answer in answers if answer.contact is not None}) == 1
    assert rows == 1


def test_one_idempotency_key_from_both_hosts_creates_one_contact_that_all_get(
    hosts: Hosts,
) -> None:
    contact: dict[str, Json] = {"advertiser_id": 2001, "email": "key@example.com"}
    answers, rows = asyncio.run(_submit(hosts, [contact] * CALLERS, "one-key"))

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)
    replays = Counter(answer.headers.get("Idempotent-Replayed") for answer in answers)
    assert replays == {None: 1, "true": CALLERS - 1}
    assert rows == 1


def test_one_idempotency_key_with_many_inputs_creates_one_contact(hosts: Hosts) -> None:
    contacts: list[dict[str, Json]] = [
        {"advertiser_id": 2001, "email": f"input-{number}@example.com"} for number in range(CALLERS)
    ]
    answers, rows = asyncio.run(_submit(hosts, contacts, "one-key-many-inputs"))

    assert Counter(answer.outcome for answer in answers) == {
        "CONTACT": 1,
        "IDEMPOTENCY_KEY_REUSED": CALLERS - 1,
    }
    assert rows == 1


def test_a_key_that_is_revoked_ends_on_every_host(hosts: Hosts) -> None:
    """A gateway caches a key for five seconds; the tests of the cache check that time."""
    key = hosts.store.keys["other_admin"]
    assert _statuses(hosts, key) == {200}
    with psycopg.connect(hosts.store.url) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE label = 'other_admin'")
    refused = retry(
        stop=stop_after_delay(WATCHDOG_SECONDS),
        wait=wait_fixed(0.5),
        retry=retry_if_result(lambda statuses: statuses != {401}),
    )(_statuses)(hosts, key)

    assert refused == {401}


def test_a_revoked_key_creates_nothing_although_a_host_has_it_cached(hosts: Hosts) -> None:
    key = hosts.store.keys["third_admin"]
    assert _statuses(hosts, key) == {200}
    with psycopg.connect(hosts.store.url) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE label = 'third_admin'")

    for process in hosts.processes:
        with process.client(key) as client:
            contact = {"advertiser_id": 2001, "email": "revoked@example.com"}
            answer = client.post("/api/v1/contacts", json={"contact": contact})
            assert answer.status_code == 401


def _statuses(hosts: Hosts, key: str) -> set[int]:
    statuses = set()
    for process in hosts.processes:
        with process.client(key) as client:
            statuses.add(client.get("/api/v1/contacts").status_code)
    return statuses
