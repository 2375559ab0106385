"""The creations of a batch: some at a time, until HiEnergy refuses or does not respond."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from contact_gateway.contacts import policy
from contact_gateway.contacts.batch import independent
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    CreateContactOutcome,
    Forbidden,
    NotTried,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from contact_gateway.contacts.source import Creation, SourceUnavailable
from contact_gateway.contacts.text import email_key
from contact_gateway.upstream.operations import UpstreamPrincipal

MAX_CONCURRENT_CREATIONS: Final = 10
"""How many creations of one batch are in flight."""

_log = structlog.get_logger(__name__)


class CreationBatch:
    """Carries out creations, and stops where the others would fail as well.

    HiEnergy says how many calls are left of the hour. Once none is, the others are `RateLimited`
    without a call. After a refused key, an outage, or too much time, they are `NotTried`.

    Args:
        create: carries out one creation.
        principal: the owner of the credential, as HiEnergy's latest answer describes it.
        timeout_seconds: how long creations are started.
    """

    def __init__(
        self,
        create: Callable[[Creation], Awaitable[CreateContactOutcome]],
        principal: UpstreamPrincipal,
        timeout_seconds: float,
    ) -> None:
        self._create: Final = create
        self._principal: Final = principal
        self._ends_at: Final = time.monotonic() + timeout_seconds
        self._stopped: NotTried | RateLimited | None = None

    async def run(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        """Return the outcome of each creation, in order.

        The first one goes alone, since a wrong key or an outage would be that of all.

        Raises:
            SourceUnavailable: HiEnergy does not respond to the first creation.
        """
        first, *others = creations
        outcomes: list[BatchedOutcome] = [self._judged(await self._create(first))]
        for part in independent(others, _shareable):
            outcomes += await self._run_concurrently(part)
        return outcomes

    async def _run_concurrently(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        slots = asyncio.Semaphore(MAX_CONCURRENT_CREATIONS)

        async def run_in_slot(creation: Creation) -> BatchedOutcome:
            async with slots:
                self._stop_if_exhausted()
                return self._stopped or await self._outcome(creation)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_in_slot(creation)) for creation in creations]
        return [task.result() for task in tasks]

    async def _outcome(self, creation: Creation) -> BatchedOutcome:
        try:
            return self._judged(await self._create(creation))
        except SourceUnavailable as error:
            _log.warning("source unavailable", cause=error.reason)
            self._stopped = self._stopped or NotTried(policy.STOPPED_BY_OUTAGE)
            return Unavailable(policy.UNAVAILABLE, error.retry_after_seconds, error.details)

    def _judged(self, outcome: CreateContactOutcome) -> CreateContactOutcome:
        """Return an outcome; stop the batch if the others would have the same."""
        if isinstance(outcome, RateLimited):
            self._stopped = outcome
        elif isinstance(outcome, (Unauthorized, Forbidden)):
            self._stopped = NotTried(policy.STOPPED_BY_REFUSAL)
        return outcome

    def _stop_if_exhausted(self) -> None:
        """Stop the batch if its time or the quota of the hour is used up."""
        quota = self._principal.reported_quota
        if self._stopped is not None:
            return
        if time.monotonic() >= self._ends_at:
            self._stopped = NotTried(policy.STOPPED_BY_TIME)
        elif quota is not None and quota.remaining == 0 and quota.resets_at > time.time():
            self._stopped = RateLimited(quota.seconds_left())


def _shareable(creation: Creation) -> Sequence[str | None]:
    """Return what makes the outcome of a creation depend on another one: address and key."""
    address = email_key(creation.contact.email)
    key = creation.idempotency_key
    return (address,) if key is None else (address, f"key:{key}")
