"""No acknowledged contact is lost, changed or doubled, however often the server is killed."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import httpx

from support.gateway_process import GatewayProcess
from support.running_gateway import Gateway
from support.served_gateway import Store
from support.submitting import FACES, Face

KILLS: Final = int(os.environ.get("KILLS", "10"))
CALLERS: Final = 8
MOST_BEFORE_A_KILL: Final = 60
SERVED: Final = {
    "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    # What a killed process has covered is lost with it, and measuring it takes its time.
    "COVERAGE_PROCESS_CONFIG": "",
}


@dataclass(slots=True)
class Callers:
    """Callers who submit contact after contact, each with its idempotency key, by both faces."""

    store: Store
    acknowledged: dict[str, str] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    async def submit_until_killed(self, process: GatewayProcess, kill_after: int) -> None:
        """Submit, and kill the server after so many acknowledgements."""
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

        async with self.store.gateway(process) as gateway:
            await asyncio.gather(
                *(submit_without_end(gateway, faces[number % 2]) for number in range(CALLERS))
            )
        process.exit_status()

    async def repeat_what_was_not_answered(self, process: GatewayProcess) -> None:
        """Submit again, by either face, what no answer came to."""
        faces = list(FACES.values())
        async with self.store.gateway(process) as gateway:
            for number, email in enumerate(self.unanswered):
                await self._submit(faces[number % 2], gateway, email)
        self.unanswered.clear()

    async def _submit(self, face: Face, gateway: Gateway, email: str) -> None:
        told = await face.submit(
            gateway,
            {"advertiser_id": 2001, "email": email, "name": email},
            gateway.admin,
            idempotency_key=email,
        )
        assert told.outcome == "CONTACT"
        assert told.contact is not None
        assert self.acknowledged.setdefault(email, told.contact["id"]) == told.contact["id"]


def _stored(file: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT email, CAST(id AS TEXT), name FROM contacts").fetchall()


def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    store = Store.filled(tmp_path)
    callers = Callers(store)
    chance = random.Random(KILLS)  # noqa: S311 - no secret
    for _ in range(KILLS):
        kill_after = chance.randint(1, MOST_BEFORE_A_KILL)
        with store.served(**SERVED) as process:
            asyncio.run(callers.repeat_what_was_not_answered(process))
            asyncio.run(callers.submit_until_killed(process, kill_after))
    with store.served(**SERVED) as process:
        asyncio.run(callers.repeat_what_was_not_answered(process))
        told = asyncio.run(_told(store, process, callers.acknowledged))

    stored = _stored(store.file)
    expected = {email: (contact_id, email) for email, contact_id in callers.acknowledged.items()}
    assert len(stored) == len(expected)
    assert {email: (contact_id, name) for email, contact_id, name in stored} == expected
    assert told == callers.acknowledged
    sys.stdout.write(f"{KILLS} kills, {len(stored)} contacts: none lost, changed or doubled\n")


async def _told(
    store: Store, process: GatewayProcess, acknowledged: dict[str, str]
) -> dict[str, str]:
    """Read each contact by its id; return the ids by the addresses that were read."""
    told: dict[str, str] = {}
    async with store.gateway(process) as gateway:
        for contact_id in acknowledged.values():
            answer = await gateway.rest(f"/contacts/{contact_id}", gateway.member)
            resource = answer.json()["data"]
            told[resource["attributes"]["email"]] = resource["id"]
    return told
