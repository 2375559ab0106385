"""Callers that submit contacts to several gateways, and the check of what became of them."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import httpx

from support.clock import WATCHDOG_SECONDS
from support.faces import FACES, Answer, Face
from support.gateway import Gateway

CALLERS: Final = 24

# A caller that repeats its submission at once would keep the machine busy with 503s.
_PAUSE_SECONDS: Final = 0.05


class Shown(NamedTuple):
    """What an answer shows of a contact, or a row of the database."""

    id: int
    advertiser_id: int
    email: str
    name: str
    job_title: str

    @property
    def address(self) -> tuple[int, str]:
        """What no two contacts have in common."""
        return self.advertiser_id, self.email


class _Manner(NamedTuple):
    """How a caller submits its contacts."""

    has_key: bool
    to_all_at_once: bool


_MANNERS: Final = tuple(_Manner(*each) for each in itertools.product((True, False), repeat=2))


@dataclass(slots=True)
class Load:
    """Callers of several gateways, what they were answered, and when it was a 503.

    A caller with idempotency keys repeats a submission that was not answered, or with a 503, at the
    next gateway. One without sends each only once. Some send each to all gateways at once.
    """

    gateways: Sequence[Gateway]
    created: dict[str, Shown] = field(default_factory=dict)
    unavailable: list[float] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    unanswered: int = 0
    _answered: Counter[int] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _is_ending: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the callers, and end them once each has the answer that it waits for."""
        self._is_ending = False
        faces = itertools.cycle((FACES["GraphQL"], FACES["REST"]))
        manners = itertools.cycle(each for each in _MANNERS for _ in FACES)
        async with asyncio.TaskGroup() as callers:
            for face, manner in itertools.islice(zip(faces, manners, strict=False), CALLERS):
                callers.create_task(self._submit_without_end(face, manner))
            try:
                yield
            finally:
                self._is_ending = True

    async def wait_for_contacts(self, number: int) -> None:
        """Wait until each gateway has answered so many further submissions with a contact."""
        wanted = {
            gateway: self._answered[gateway] + number for gateway in range(len(self.gateways))
        }
        async with asyncio.timeout(WATCHDOG_SECONDS), self._changed:
            await self._changed.wait_for(
                lambda: all(self._answered[each] >= count for each, count in wanted.items())
            )

    async def _submit_without_end(self, face: Face, manner: _Manner) -> None:
        while not self._is_ending:
            number = next(self._numbers)
            contact = {
                "advertiser_id": 2001,
                "email": f"{number}@example.com",
                "name": f"Number {number}",
                "job_title": face.__class__.__name__,
            }
            key = f"key-{number}" if manner.has_key else None
            first = number % len(self.gateways)
            gateways = [*range(first, len(self.gateways)), *range(first)]
            submit = partial(self._submit, face, contact, key)
            if manner.to_all_at_once:
                # Without a key, the second one is a conflict, which shows the contact.
                expected = {"CONTACT"} if manner.has_key else {"CONTACT", "CONFLICT"}
                await asyncio.gather(*(submit([gateway], expected) for gateway in gateways))
            else:
                await submit(gateways, {"CONTACT"})

    async def _submit(
        self,
        face: Face,
        contact: Mapping[str, object],
        key: str | None,
        gateways: Sequence[int],
        expected: Collection[str],
    ) -> None:
        for gateway in itertools.cycle(gateways):
            try:
                answer = await face.submit(
                    self.gateways[gateway],
                    contact,
                    self.gateways[gateway].admin,
                    idempotency_key=key,
                )
            except httpx.TransportError:
                self.unanswered += 1
            else:
                if await self._is_final(answer, gateway, str(contact["email"]), expected):
                    return
            if key is None:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_final(
        self, answer: Answer, gateway: int, email: str, expected: Collection[str]
    ) -> bool:
        if answer.outcome == "SERVICE_UNAVAILABLE" and "Retry-After" in answer.headers:
            self.unavailable.append(time.monotonic())
            return False
        if answer.outcome not in expected or answer.contact is None:
            self.unexpected.append(f"{answer.status} {answer.outcome} {answer.message}")
            return True
        shown = Shown(
            id=int(answer.contact["id"]),
            advertiser_id=int(answer.contact["advertiser_id"]),
            email=answer.contact["email"],
            name=answer.contact["name"],
            job_title=answer.contact["job_title"],
        )
        if self.created.setdefault(email, shown) != shown:
            self.unexpected.append(f"{shown} after {self.created[email]}")
        async with self._changed:
            self._answered[gateway] += 1
            self._changed.notify_all()
        return True


class Findings(NamedTuple):
    """Acknowledged contacts that are not as they were answered, and addresses stored twice."""

    lost: Collection[Shown]
    changed: Collection[Shown]
    duplicated: Collection[tuple[int, str]]


def findings(acknowledged: Collection[Shown], stored: Collection[Shown]) -> Findings:
    """Compare what was acknowledged with the rows of the database."""
    addresses = Counter(row.address for row in stored)
    rows = {row.address: row for row in stored}
    return Findings(
        lost=[shown for shown in acknowledged if shown.address not in rows],
        changed=[shown for shown in acknowledged if rows.get(shown.address, shown) != shown],
        duplicated=[address for address, count in addresses.items() if count > 1],
    )
