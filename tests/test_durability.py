"""A server that is killed under load loses, changes and duplicates no acknowledged contact."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from support.databases import current_engine, plain_connection
from support.faces import FACES, Face
from support.gateway import Gateway, Store, filled_store
from support.process import GatewayProcess, gateway_process

KILLS: Final = int(os.environ.get("KILLS", "4"))
CALLERS: Final = 8
MOST_BEFORE_A_KILL: Final = 60
ENVIRONMENT: Final = {
    "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    # A killed process writes no coverage data, and measuring slows it down.
    "COVERAGE_PROCESS_CONFIG": "",
}


@dataclass(slots=True)
class Callers:
    """Callers that submit contacts one after another, each with its own idempotency key."""

    store: Store
    acknowledged: dict[str, str] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    async def submit_until_killed(self, process: GatewayProcess, kill_after: int) -> None:
        """Submit contacts; kill the server after `kill_after` acknowledgements."""
        left = kill_after
        faces = list(FACES.values())

        async def submit_without_end(gateway: Gateway, face: Face) -> None:
            nonlocal left
            while True:
                email = f"{next(self.numbers)}@example.com"
                try:
                    await self._submit(face, gateway, email)
                except httpx.TransportError:
                    self.unanswered.append(email)
                    return
                left -= 1
                if left == 0:
                    process.send(signal.SIGKILL)

        async with process.gateway(self.store) as gateway:
            await asyncio.gather(
                *(submit_without_end(gateway, faces[number % 2]) for number in range(CALLERS))
            )
        process.exit_status()

    async def retry_unanswered(self, process: GatewayProcess) -> None:
        """Submit the unanswered contacts again, on alternating faces."""
        faces = list(FACES.values())
        async with process.gateway(self.store) as gateway:
            for number, email in enumerate(self.unanswered):
                await self._submit(faces[number % 2], gateway, email)
        self.unanswered.clear()

    async def _submit(self, face: Face, gateway: Gateway, email: str) -> None:
        answer = await face.submit(
            gateway,
            {"advertiser_id": 2001, "email": email, "name": email},
            gateway.admin,
            idempotency_key=email,
        )
        assert answer.outcome == "CONTACT"
        assert answer.contact is not None
        assert self.acknowledged.setdefault(email, answer.contact["id"]) == answer.contact["id"]


def _stored(store: Store) -> list[tuple[str, str, str]]:
    with plain_connection(store.address) as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
        rows = connection.exec_driver_sql("SELECT email, CAST(id AS TEXT), name FROM contacts")
        return [(email, contact_id, name) for email, contact_id, name in rows]


@pytest.mark.usefixtures("engine")
def test_a_killed_server_loses_and_duplicates_no_contact(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    callers = Callers(store)
    random_numbers = random.Random(KILLS)  # noqa: S311 - no secret
    for _ in range(KILLS):
        kill_after = random_numbers.randint(1, MOST_BEFORE_A_KILL)
        with gateway_process(tmp_path, store=store, environment=ENVIRONMENT) as process:
            asyncio.run(callers.retry_unanswered(process))
            asyncio.run(callers.submit_until_killed(process, kill_after))
    with gateway_process(tmp_path, store=store, environment=ENVIRONMENT) as process:
        asyncio.run(callers.retry_unanswered(process))
        read = asyncio.run(_read_all(store, process, callers.acknowledged))

    stored = _stored(store)
    expected = {email: (contact_id, email) for email, contact_id in callers.acknowledged.items()}
    assert len(stored) == len(expected)
    assert {email: (contact_id, name) for email, contact_id, name in stored} == expected
    assert read == callers.acknowledged
    kept = f"{len(stored)} contacts: none lost, changed or duplicated"
    sys.stdout.write(f"{current_engine()}: {KILLS} kills, {kept}\n")


async def _read_all(
    store: Store, process: GatewayProcess, acknowledged: dict[str, str]
) -> dict[str, str]:
    """Read each contact by its id; return the ids by e-mail address."""
    ids: dict[str, str] = {}
    async with process.gateway(store) as gateway:
        for contact_id in acknowledged.values():
            answer = await gateway.rest(f"/contacts/{contact_id}", gateway.member)
            resource = answer.json()["data"]
            ids[resource["attributes"]["email"]] = resource["id"]
    return ids
