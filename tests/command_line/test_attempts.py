"""`contact-gateway attempts`: creations in HiEnergy with an unknown outcome, listed and settled."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.databases import plain_connection
from support.faces import FACES, Answer, Json
from support.gateway import empty_store, ledger_address
from support.hienergy import Fault, HiEnergy, Shown, Traits
from support.process import Command
from support.upstream import KEY, gateway_and_upstream

pytestmark = pytest.mark.usefixtures("engine")

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com", "name": "Maya"}
Submit = Callable[[], Answer]


@pytest.fixture
def hienergy() -> HiEnergy:
    return HiEnergy(Traits())


@pytest.fixture
def submit(folder: Path, hienergy: HiEnergy, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Return a function that submits one contact under one key, each time by a new gateway."""
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", empty_store(folder, {}).url)

    async def submitted() -> Answer:
        async with gateway_and_upstream(hienergy.answer, folder) as (gateway, _):
            return await FACES["REST"].submit(gateway, MAYA, KEY, idempotency_key="k")

    return lambda: asyncio.run(submitted())


@pytest.fixture
def lost(submit: Submit, hienergy: HiEnergy) -> Answer:
    """Return the outcome of a creation whose answer was lost."""
    hienergy.faults.append(Fault.CLOSED_AFTER)
    return submit()


def _listed(run: Command, *options: str) -> list[list[str]]:
    """Return the lines of the list, without its head."""
    result = run("attempts", "list", *options)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()[1:]]


def test_an_attempt_is_listed_without_its_address(run: Command, lost: Answer) -> None:
    ((an_id, *rest),) = _listed(run)

    assert lost.outcome == "OUTCOME_UNKNOWN"
    assert len(bytes.fromhex(an_id)) == 6
    assert rest[2:] == ["0", "h", "0", "min", "2001", "answer", "lost"]


@pytest.mark.usefixtures("lost")
def test_the_address_is_shown_on_demand(run: Command) -> None:
    ((*_, address),) = _listed(run, "--show-addresses")

    assert address == "maya@example.com"
    assert "@" not in run("attempts", "list").output


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("options", [(), ("--show-addresses",)])
def test_the_list_is_a_json_array_on_request(run: Command, options: tuple[str, ...]) -> None:
    (attempt,) = json.loads(run("attempts", "list", "--json", *options).stdout)

    assert len(bytes.fromhex(attempt.pop("id"))) == 6
    assert attempt.pop("sent_at").endswith("Z")
    assert ("@" in attempt.pop("email", "")) == bool(options)
    assert attempt == {"advertiser_id": 2001, "state": "answer lost"}


def test_a_success_without_an_id_is_listed_as_created(
    run: Command, submit: Submit, hienergy: HiEnergy
) -> None:
    hienergy.traits.creation_shows = Shown.NO_CONTENT
    submit()
    (line,) = _listed(run)

    assert line[-3:] == ["created,", "id", "unknown"]


@pytest.mark.usefixtures("lost")
def test_one_settled_with_a_contact_is_that_contact(
    run: Command, submit: Submit, hienergy: HiEnergy
) -> None:
    ((an_id, *_),) = _listed(run)
    settled = run("attempts", "settle", an_id, "--contact", "1")
    repeated = submit()

    assert settled.exit_code == 0
    assert repeated.outcome == "CONTACT"
    assert repeated.contact is not None
    assert (repeated.contact["id"], repeated.contact["name"]) == ("1", "Maya")
    assert len(hienergy.contacts) == 1
    assert _listed(run) == []


def test_one_that_created_none_may_be_sent_again(
    folder: Path, run: Command, submit: Submit, hienergy: HiEnergy
) -> None:
    hienergy.faults.append(Fault.CLOSED_BEFORE)
    submit()
    ((an_id, *_),) = _listed(run)
    early = run("attempts", "settle", an_id, "--not-created")
    assert "may still be processing" in early.stderr
    with plain_connection(ledger_address(folder)) as ledger:
        ledger.exec_driver_sql("UPDATE attempts SET held_until = sent_at")
    settled = run("attempts", "settle", an_id, "--not-created")
    repeated = submit()

    assert settled.exit_code == 0
    assert repeated.outcome == "CONTACT"
    assert len(hienergy.contacts) == 1


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ffffffffffff", "--not-created"), "No open attempt ffffffffffff."),
        (("%", "--not-created"), "No open attempt %."),
    ],
)
def test_an_unknown_id_is_refused(run: Command, arguments: tuple[str, ...], sentence: str) -> None:
    result = run("attempts", "settle", *arguments)

    assert result.exit_code == 1
    assert sentence in result.stderr


@pytest.mark.usefixtures("lost")
def test_an_empty_id_is_not_the_beginning_of_the_only_one(run: Command) -> None:
    """A variable of a script that is not set."""
    result = run("attempts", "settle", "", "--contact", "1")

    assert result.exit_code == 2
    assert "Invalid value for 'ID': It is empty." in result.stderr
    assert len(_listed(run)) == 1


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("options", [(), ("--contact", "1", "--not-created")])
def test_exactly_one_result_is_given(run: Command, options: tuple[str, ...]) -> None:
    ((an_id, *_),) = _listed(run)
    result = run("attempts", "settle", an_id, *options)

    assert result.exit_code == 2
    assert "--not-created" in result.stderr
    assert len(_listed(run)) == 1
