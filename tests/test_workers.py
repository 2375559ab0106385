"""One or two worker processes on one store: concurrent submissions, and a revoked key."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, plain_connection
from support.faces import FACES, Answer, Json
from support.gateway import Store, filled_store
from support.process import GatewayProcess, gateway_process

CALLERS = 24


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"], scope="module")
def served(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    engine_of_module: Engine,  # noqa: ARG001 - of this engine
) -> Iterator[tuple[Store, GatewayProcess]]:
    store = filled_store(tmp_path_factory.mktemp("races"))
    with gateway_process(store.folder, "--workers", str(request.param), store=store) as process:
        yield store, process


async def _all_at_once(
    served: tuple[Store, GatewayProcess], contacts: list[dict[str, Json]], key: str | None
) -> tuple[list[Answer], int]:
    """Submit all contacts at once, on alternating faces; return the answers and the new rows."""
    store, process = served
    faces = list(FACES.values())
    # With one connection a request, every worker gets some.
    async with process.gateway(store, keep_alive=False) as gateway:
        before = await gateway.contact_rows()
        answers = await asyncio.gather(
            *(
                faces[number % 2].submit(gateway, contact, gateway.admin, idempotency_key=key)
                for number, contact in enumerate(contacts)
            )
        )
        return answers, await gateway.contact_rows() - before


@pytest.mark.parametrize("served", [2], ids=["two workers"], indirect=True)
def test_a_revoked_key_ends_in_every_worker(served: tuple[Store, GatewayProcess]) -> None:
    """A worker caches a key for five seconds; the tests of the cache check that time."""
    store, process = served
    assert _statuses(process, store.keys["other_admin"]) == {200}
    with plain_connection(store.address) as connection:
        connection.exec_driver_sql(
            "UPDATE api_keys SET revoked_at = CURRENT_TIMESTAMP WHERE label = 'other_admin'"
        )
    refused = retry(
        stop=stop_after_delay(WATCHDOG_SECONDS),
        wait=wait_fixed(0.5),
        retry=retry_if_result(lambda statuses: statuses != {401}),
    )(_statuses)(process, store.keys["other_admin"])

    assert refused == {401}


def _statuses(process: GatewayProcess, key: str) -> set[int]:
    """Send many requests, one a connection, so that each worker gets some."""
    statuses = set()
    for _ in range(20):
        with process.client(key) as client:
            statuses.add(client.get("/api/v1/contacts").status_code)
    return statuses


def test_concurrent_submissions_of_one_address_create_one_contact(
    served: tuple[Store, GatewayProcess],
) -> None:
    """The submissions name any record of the brand, and the address in any case."""
    contacts: list[dict[str, Json]] = [
        {
            "advertiser_id": [1001, 2001, 2002][number % 3],
            "email": ["one@example.com", "ONE@EXAMPLE.com"][number % 2],
        }
        for number in range(CALLERS)
    ]
    answers, rows = asyncio.run(_all_at_once(served, contacts, None))

    assert Counter(answer.outcome for answer in answers) == {
        "CONTACT": 1,
        "CONFLICT": CALLERS - 1,
    }
    assert len({answer.contact["id"] for answer in answers if answer.contact is not None}) == 1
    assert rows == 1


def test_concurrent_submissions_with_one_idempotency_key_get_one_contact(
    served: tuple[Store, GatewayProcess],
) -> None:
    contact: dict[str, Json] = {"advertiser_id": 2001, "email": "key@example.com"}
    answers, rows = asyncio.run(_all_at_once(served, [contact] * CALLERS, "one-key"))

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)
    assert rows == 1


def test_concurrent_inputs_with_one_idempotency_key_create_one_contact(
    served: tuple[Store, GatewayProcess],
) -> None:
    contacts: list[dict[str, Json]] = [
        {"advertiser_id": 2001, "email": f"input-{number}@example.com"} for number in range(CALLERS)
    ]
    answers, rows = asyncio.run(_all_at_once(served, contacts, "one-key-many-inputs"))

    assert Counter(answer.outcome for answer in answers) == {
        "CONTACT": 1,
        "IDEMPOTENCY_KEY_REUSED": CALLERS - 1,
    }
    assert rows == 1


def test_concurrent_submissions_of_different_addresses_are_all_created(
    served: tuple[Store, GatewayProcess],
) -> None:
    contacts: list[dict[str, Json]] = [
        {"advertiser_id": 2001, "email": f"different-{number}@example.com"}
        for number in range(CALLERS)
    ]
    answers, rows = asyncio.run(_all_at_once(served, contacts, None))

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert len({(answer.contact or {})["id"] for answer in answers}) == rows == CALLERS
