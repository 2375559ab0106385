"""Creations upstream: at most one contact for each idempotency key, whatever fails.

Upstream does not promise idempotency. So each attempt is written to the ledger before its call and
completed after the response. A retry that finds an attempt without a response looks the contact up
before it sends anything.
"""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final, TypeVar

import structlog

from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.fields import email_key
from contact_gateway.contacts.ledger import Attempt, Ledger
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    Forbidden,
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.source import (
    ContactFilter,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.upstream.client import Delivery, UpstreamUnavailable
from contact_gateway.upstream.operations import Operations

T = TypeVar("T")

# A lease lasts for the timeout of a call plus this, for delays of the ledger and the event loop.
_LEASE_MARGIN: Final = timedelta(seconds=2)
# A lease that took longer than this to write is renewed before the call.
_MAX_LEDGER_DELAY: Final = timedelta(seconds=1)
_MIN_POLL_SECONDS: Final = 0.05
_MAX_POLL_SECONDS: Final = 0.5
# A caller waits for at most two calls: another caller's creation, or a lookup and its own.
_MAX_CALLS_PER_CALLER: Final = 2
# How far the clocks may differ if upstream sends no `Date`.
_MAX_CLOCK_SKEW: Final = timedelta(seconds=60)
# How far they may differ if it does: `Date` has whole seconds, and clocks drift.
_DATE_PRECISION: Final = timedelta(seconds=2)
_FIRST_PAGE: Final = PageRequest(number=1, size=100)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _KeyedSubmission:
    """A submission under an idempotency key."""

    caller: Operations
    contact: NewContact
    ledger_key: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _InFlight:
    fingerprint: bytes
    task: asyncio.Task[CreateContactOutcome]


class Creations:
    """Creates contacts upstream."""

    def __init__(self, timeout_seconds: float, ledger: Ledger) -> None:
        self._ledger: Final = ledger
        call = timedelta(seconds=timeout_seconds)
        self._lease: Final = call + _LEASE_MARGIN
        self._max_wait_seconds: Final = (
            call * _MAX_CALLS_PER_CALLER + _LEASE_MARGIN
        ).total_seconds()
        self._in_flight: Final[dict[bytes, _InFlight]] = {}

    async def close(self) -> None:
        """Wait for the creations in flight."""
        tasks = [in_flight.task for in_flight in self._in_flight.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(
        self,
        caller: Operations,
        contact: NewContact,
        idempotency_key: str | None,
        *,
        dry_run: bool,
    ) -> CreateContactOutcome:
        """Create a contact, or return what the idempotency key created before.

        Raises:
            SourceUnavailable: upstream or the ledger does not respond.
        """
        if idempotency_key is None:
            return await self._send(caller, contact, dry_run=dry_run)
        # The digest reveals neither the credential nor the idempotency key.
        secret = caller.credential.secret
        preimage = f"{len(secret)}:{secret}:{idempotency_key}"
        ledger_key = hashlib.sha256(preimage.encode()).digest()
        submission = _KeyedSubmission(caller, contact, ledger_key, contact.fingerprint())
        if not dry_run:
            return await self._create_once(submission)
        found = await self._ledger.find(ledger_key)
        if found is not None and found.contact is not None:
            return await self._replay(submission, found, found.contact, dry_run=True)
        return await self._send(caller, contact, dry_run=True)

    async def _create_once(self, submission: _KeyedSubmission) -> CreateContactOutcome:
        """Share the creation that this process has in flight for the key, or start one."""
        deadline = time.monotonic() + self._max_wait_seconds
        # A finished task is not shared: its outcome was another caller's.
        while (other := self._in_flight.get(submission.ledger_key)) and not other.task.done():
            outcome = await _wait_for(other.task, deadline)
            if isinstance(outcome, Created):
                earlier = policy.Earlier(other.fingerprint, outcome.contact)
                return policy.repeat(submission.contact, earlier, dry_run=False)
            if other.fingerprint == submission.fingerprint:
                return outcome
        task = asyncio.create_task(self._claim_and_create(submission))
        self._in_flight[submission.ledger_key] = _InFlight(submission.fingerprint, task)
        task.add_done_callback(lambda done: self._remove(submission.ledger_key, done))
        return await _wait_for(task, deadline)

    def _remove(self, ledger_key: bytes, done: asyncio.Task[CreateContactOutcome]) -> None:
        in_flight = self._in_flight.get(ledger_key)
        if in_flight is not None and in_flight.task is done:
            del self._in_flight[ledger_key]
        if not done.cancelled():
            # Mark the exception as retrieved: all callers may have disconnected.
            done.exception()

    async def _claim_and_create(self, submission: _KeyedSubmission) -> CreateContactOutcome:
        has_looked_up = False
        while True:
            wanted = self._new_attempt(submission)
            found = await self._ledger.claim(submission.ledger_key, wanted)
            if found == wanted:
                return await self._send_attempt(
                    submission, await self._renew_lease(submission, wanted)
                )
            if found.contact is not None:
                return await self._replay(submission, found, found.contact, dry_run=False)
            if found.holder == wanted.holder:
                return await self._recover(submission, found)
            # Another process holds the lease, or died, or upstream may still be processing its
            # call. A contact that is already created can be returned before the lease expires.
            if not has_looked_up and (outcome := await self._look_up_outcome(submission, found)):
                return outcome
            has_looked_up = True
            await self._wait_for_lease(submission, found)

    async def _wait_for_lease(self, submission: _KeyedSubmission, held: Attempt) -> None:
        """Poll the ledger until an attempt is completed or deleted, or its lease ends."""
        seconds = _MIN_POLL_SECONDS
        while True:
            await asyncio.sleep(seconds)
            found = await self._ledger.find(submission.ledger_key)
            if found is None or found.contact is not None or found.holder != held.holder:
                return
            if found.held_until <= datetime.now(UTC):
                return
            seconds = min(seconds * 2, _MAX_POLL_SECONDS)

    async def _renew_lease(self, submission: _KeyedSubmission, attempt: Attempt) -> Attempt:
        """Extend a lease to a whole call from now, if the ledger was slow to write it."""
        if datetime.now(UTC) - attempt.sent_at < _MAX_LEDGER_DELAY:
            return attempt
        started_at = datetime.now(UTC)
        renewed = attempt._replace(held_until=started_at + self._lease)
        is_held = await self._ledger.put(submission.ledger_key, attempt.holder, renewed)
        if not is_held or datetime.now(UTC) - started_at >= _MAX_LEDGER_DELAY:
            await self._record(submission, attempt, None)
            raise SourceUnavailable("the ledger is too slow")
        return renewed

    async def _look_up_outcome(
        self, submission: _KeyedSubmission, held: Attempt
    ) -> CreateContactOutcome | None:
        """Return the outcome of an attempt that another process holds, if upstream shows it."""
        try:
            found = await self._look_up(submission.caller, held.advertiser_id, held.email)
        except SourceUnavailable:
            return None
        if found is not None and not isinstance(found, Contact):
            return found
        if found is None or not _was_created_by(held, found, submission.caller):
            return None
        return policy.repeat(
            submission.contact, policy.Earlier(held.fingerprint, found), dry_run=False
        )

    def _new_attempt(self, submission: _KeyedSubmission) -> Attempt:
        now = datetime.now(UTC)
        return Attempt(
            fingerprint=submission.fingerprint,
            advertiser_id=submission.contact.advertiser_id,
            email=submission.contact.email,
            sent_at=now,
            holder=secrets.token_hex(16),
            held_until=now + self._lease,
        )

    async def _send_attempt(
        self, submission: _KeyedSubmission, attempt: Attempt, unresolved: Attempt | None = None
    ) -> CreateContactOutcome:
        """Send the creation of an attempt, and record its outcome in the ledger.

        `unresolved` is the earlier attempt that this one retries. If the contact turns out to
        exist, that attempt created it.
        """
        try:
            outcome = await self._send(submission.caller, submission.contact, dry_run=False)
        except UpstreamUnavailable as error:
            if error.delivery is not Delivery.UNKNOWN:
                await self._record(
                    submission, attempt, None if unresolved is None else _released(unresolved)
                )
            elif not _may_still_run(error.status):
                await self._record(submission, attempt, _released(attempt))
            raise
        match outcome:
            case Created(contact):
                await self._record(submission, attempt, attempt._replace(contact=contact))
            case _ if unresolved is None:
                await self._record(submission, attempt, None)
            case Conflict(Contact() as existing) if _was_created_by(
                unresolved, existing, submission.caller
            ):
                completed = unresolved._replace(held_until=attempt.held_until, contact=existing)
                await self._record(submission, attempt, completed)
                earlier = policy.Earlier(unresolved.fingerprint, existing)
                return policy.repeat(submission.contact, earlier, dry_run=False)
            case _:
                # The outcome of the earlier attempt is still unknown.
                await self._record(submission, attempt, _released(unresolved))
                if isinstance(outcome, Conflict) and outcome.existing is None:
                    raise SourceUnavailable("the conflict may be with this key's own contact")
        return outcome

    async def _recover(
        self, submission: _KeyedSubmission, unresolved: Attempt
    ) -> CreateContactOutcome:
        """Look up the contact of an attempt without a response; send again if there is none."""
        try:
            found = await self._look_up(
                submission.caller, unresolved.advertiser_id, unresolved.email
            )
        except SourceUnavailable:
            await self._record(submission, unresolved, _released(unresolved))
            raise
        if found is not None and not isinstance(found, Contact):
            await self._record(submission, unresolved, _released(unresolved))
            return found
        if found is not None and _was_created_by(unresolved, found, submission.caller):
            await self._record(submission, unresolved, unresolved._replace(contact=found))
            earlier = policy.Earlier(unresolved.fingerprint, found)
            return policy.repeat(submission.contact, earlier, dry_run=False)
        if found is not None and email_key(submission.contact.email) == email_key(
            found.details.email
        ):
            await self._record(submission, unresolved, None)
            return Conflict(found, policy.ADDRESS_IS_TAKEN)
        retry = self._new_attempt(submission)._replace(holder=unresolved.holder)
        if retry.fingerprint == unresolved.fingerprint:
            retry = retry._replace(sent_at=unresolved.sent_at)
        if not await self._ledger.put(submission.ledger_key, unresolved.holder, retry):
            raise SourceUnavailable("another process took over the creation")
        return await self._send_attempt(submission, retry, unresolved)

    async def _replay(
        self, submission: _KeyedSubmission, found: Attempt, contact: Contact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Return what the key created, unless upstream now refuses the caller.

        If upstream does not respond, return the contact as the ledger has it.
        """
        try:
            current = await self._look_up(
                submission.caller, contact.details.advertiser_id, contact.details.email
            )
        except SourceUnavailable:
            current = None
        if isinstance(current, Unauthorized | Forbidden | RateLimited):
            return current
        if isinstance(current, Contact) and current.id == contact.id:
            contact = current
        earlier = policy.Earlier(found.fingerprint, contact)
        return policy.repeat(submission.contact, earlier, dry_run=dry_run)

    async def _send(
        self, caller: Operations, contact: NewContact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Send a creation; look the existing contact up if a conflict does not include it."""
        outcome = await caller.send_creation(contact, dry_run=dry_run)
        if not isinstance(outcome, Conflict) or outcome.existing is not None:
            return outcome
        try:
            found = await self._look_up(caller, contact.advertiser_id, contact.email)
        except SourceUnavailable:
            return outcome
        return replace(outcome, existing=found) if isinstance(found, Contact) else outcome

    async def _look_up(
        self, caller: Operations, advertiser_id: int, email: str
    ) -> Contact | ReadRefusal | None:
        """Find the contact with an address on an advertiser's brand, within a read's timeout."""
        try:
            async with asyncio.timeout(caller.timeout_seconds):
                return await _find_contact(caller, advertiser_id, email)
        except TimeoutError:
            raise SourceUnavailable("a contact lookup timed out") from None

    async def _record(
        self, submission: _KeyedSubmission, attempt: Attempt, entry: Attempt | None
    ) -> None:
        """Replace an attempt's ledger entry. If that fails, a retry looks the contact up."""
        try:
            await self._ledger.put(submission.ledger_key, attempt.holder, entry)
        except SourceUnavailable as error:
            _log.warning(
                "the ledger does not respond; a retry will look the contact up", cause=error.reason
            )
        except Exception as error:  # noqa: BLE001 - upstream's response is returned anyway
            _log.error("the ledger failed; a retry will look the contact up", exc_info=error)


async def _find_contact(
    caller: Operations, advertiser_id: int, email: str
) -> Contact | ReadRefusal | None:
    wanted = ContactFilter(advertiser_id=advertiser_id, email=email)
    found = await _contacts_with_email(email, caller, wanted)
    if not isinstance(found, list):
        return found
    if found:
        return found[0]
    # Given the id of a network record, upstream may not find a contact of its HiEnergy record.
    others = await _contacts_with_email(email, caller, ContactFilter(email=email))
    if not isinstance(others, list):
        return others
    if not others:
        return None
    advertiser = _checked(await caller.advertiser(advertiser_id))
    if not isinstance(advertiser, Advertiser):
        return advertiser
    brand_ids = {advertiser.id, advertiser.hienergy_id}
    return next((contact for contact in others if contact.details.advertiser_id in brand_ids), None)


async def _contacts_with_email(
    email: str, caller: Operations, wanted: ContactFilter
) -> list[Contact] | ReadRefusal:
    page = _checked(await caller.contacts(wanted, _FIRST_PAGE))
    if not isinstance(page, Page):
        return page
    key = email_key(email)
    found = [contact for contact in page.items if email_key(contact.details.email) == key]
    if not found and page.has_more:
        raise SourceUnavailable("upstream ignored the e-mail filter")
    return found


def _checked(found: T | ReadRefusal) -> T | ReadRefusal:
    """Return the result of a lookup; raise if it is `InvalidInput`, which is not the caller's."""
    if isinstance(found, InvalidInput):
        raise SourceUnavailable("upstream refused a lookup as invalid")
    return found


def _was_created_by(attempt: Attempt, contact: Contact, caller: Operations) -> bool:
    """Return whether an attempt created a contact: its address matches, and it is new enough."""
    if email_key(contact.details.email) != email_key(attempt.email):
        return False
    ahead = caller.clock_ahead()
    earliest = (
        attempt.sent_at - _MAX_CLOCK_SKEW
        if ahead is None
        else attempt.sent_at + ahead - _DATE_PRECISION
    )
    return contact.created_at >= earliest


def _may_still_run(status: int | None) -> bool:
    """Return whether upstream may still process a call: a proxy may have sent the status."""
    return (
        status is None
        or status == HTTPStatus.REQUEST_TIMEOUT
        or status > HTTPStatus.NOT_IMPLEMENTED
    )


async def _wait_for(
    task: asyncio.Task[CreateContactOutcome], deadline: float
) -> CreateContactOutcome:
    """Wait for a task until a monotonic time; the task goes on even if its callers disconnect."""
    await asyncio.wait({task}, timeout=deadline - time.monotonic())
    if not task.done():
        raise SourceUnavailable("the creation timed out")
    return task.result()


def _released(attempt: Attempt) -> Attempt:
    """Return an attempt whose lease ends now."""
    return attempt._replace(held_until=datetime.now(UTC))
