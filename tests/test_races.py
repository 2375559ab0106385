"""Callers at one moment, by both faces, at one worker process and at several on one store."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from support.gateway_process import GatewayProcess
from support.served_gateway import Store
from support.submitting import FACES, Answer, Json

CALLERS = 24


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"], scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, GatewayProcess]]:
    store = Store.filled(tmp_path_factory.mktemp("races"))
    with store.served("--workers", str(request.param)) as process:
        yield store, process


async def _all_at_once(
    served: tuple[Store, GatewayProcess], contacts: list[dict[str, Json]], key: str | None
) -> tuple[list[Answer], int]:
    """Submit each, by one face after the other; return the answers, and how many rows came."""
    store, process = served
    faces = list(FACES.values())
    # A connection each, so that all workers get some.
    async with store.gateway(process, keep_alive=False) as gateway:
        before = await gateway.contact_rows()
        answers = await asyncio.gather(
            *(
                faces[number % 2].submit(gateway, contact, gateway.admin, idempotency_key=key)
                for number, contact in enumerate(contacts)
            )
        )
        return answers, await gateway.contact_rows() - before


def test_of_many_with_one_address_one_creates_and_the_others_conflict(
    served: tuple[Store, GatewayProcess],
) -> None:
    """By any of the brand's records, and with the address in any case."""
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


def test_all_with_one_idempotency_key_get_one_contact(
    served: tuple[Store, GatewayProcess],
) -> None:
    contact: dict[str, Json] = {"advertiser_id": 2001, "email": "key@example.com"}
    answers, rows = asyncio.run(_all_at_once(served, [contact] * CALLERS, "one-key"))

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)
    assert rows == 1


def test_of_many_inputs_with_one_idempotency_key_one_is_created(
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


def test_all_that_differ_are_created(served: tuple[Store, GatewayProcess]) -> None:
    contacts: list[dict[str, Json]] = [
        {"advertiser_id": 2001, "email": f"different-{number}@example.com"}
        for number in range(CALLERS)
    ]
    answers, rows = asyncio.run(_all_at_once(served, contacts, None))

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert len({(answer.contact or {})["id"] for answer in answers}) == rows == CALLERS
