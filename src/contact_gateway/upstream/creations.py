"""Creations upstream, at most one for each idempotency key, whatever breaks on the way.

Upstream promises no idempotency. So an attempt is written into the ledger before the call and
closed after the answer; who finds one without an answer looks the contact up before sending again.
"""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import structlog

from contact_gateway.access.principals import Credential
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

# Beside the time that a call may take: what the ledger and the event loop may take around it.
_HELD_BESIDE_THE_CALL: Final = timedelta(seconds=2)
_WRITTEN_WITHIN: Final = timedelta(seconds=1)
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 0.5
# A caller waits for two calls at most: another's creation, or their own and a look-up.
_CALLS_THAT_A_CALLER_WAITS: Final = 2
# Where upstream does not tell its time, the clocks may differ by so much.
_CLOCKS_AGREE_WITHIN: Final = timedelta(seconds=60)
# Where it does: the parts of a second that it does not write, and how much clocks drift.
_TIMES_ARE_WRITTEN_WITHIN: Final = timedelta(seconds=2)
_FIRST: Final = PageRequest(number=1, size=100)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Keyed:
    """A submission under an idempotency key; `place` is its key in the ledger."""

    caller: Operations
    contact: NewContact
    place: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _UnderWay:
    fingerprint: bytes
    task: asyncio.Task[CreateContactOutcome]


class Creations:
    """Creates contacts upstream."""

    def __init__(self, timeout_seconds: float, ledger: Ledger) -> None:
        self._timeout_seconds: Final = timeout_seconds
        self._ledger: Final = ledger
        call = timedelta(seconds=timeout_seconds)
        self._hold: Final = call + _HELD_BESIDE_THE_CALL
        self._longest_wait_seconds: Final = (
            call * _CALLS_THAT_A_CALLER_WAITS + _HELD_BESIDE_THE_CALL
        ).total_seconds()
        self._under_way: Final[dict[bytes, _UnderWay]] = {}

    async def close(self) -> None:
        """Wait until all that is under way is answered."""
        tasks = [under_way.task for under_way in self._under_way.values()]
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
            SourceUnavailable: upstream or the ledger does not answer.
        """
        if idempotency_key is None:
            return await self._send(caller, contact, dry_run=dry_run)
        place = _place(caller.credential, idempotency_key)
        keyed = _Keyed(caller, contact, place, contact.fingerprint())
        return await (self._try_out(keyed) if dry_run else self._create_once(keyed))

    async def _try_out(self, keyed: _Keyed) -> CreateContactOutcome:
        found = await self._ledger.find(keyed.place)
        if found is not None and found.contact is not None:
            return await self._repeat(keyed, found, found.contact, dry_run=True)
        return await self._send(keyed.caller, keyed.contact, dry_run=True)

    async def _create_once(self, keyed: _Keyed) -> CreateContactOutcome:
        """Share the call that is under way in this process for the key, or make one."""
        deadline = time.monotonic() + self._longest_wait_seconds
        # What has ended is not waited for: its outcome was another caller's.
        while (other := self._under_way.get(keyed.place)) is not None and not other.task.done():
            outcome = await _end_of(other.task, deadline)
            if isinstance(outcome, Created):
                earlier = policy.Earlier(other.fingerprint, outcome.contact)
                return policy.repeat(keyed.contact, earlier, dry_run=False)
            if other.fingerprint == keyed.fingerprint:
                return outcome
        task = asyncio.create_task(self._claim_and_create(keyed))
        self._under_way[keyed.place] = _UnderWay(keyed.fingerprint, task)
        task.add_done_callback(lambda ended: self._forget(keyed.place, ended))
        return await _end_of(task, deadline)

    def _forget(self, place: bytes, ended: asyncio.Task[CreateContactOutcome]) -> None:
        if (left := self._under_way.get(place)) is not None and left.task is ended:
            del self._under_way[place]
        if not ended.cancelled():
            # Its callers, if any are left, are told by the task itself.
            ended.exception()

    async def _claim_and_create(self, keyed: _Keyed) -> CreateContactOutcome:
        has_looked = False
        while True:
            wanted = self._attempt(keyed)
            found = await self._ledger.claim(keyed.place, wanted)
            if found == wanted:
                return await self._call(keyed, await self._renewed(keyed, wanted))
            if found.contact is not None:
                return await self._repeat(keyed, found, found.contact, dry_run=False)
            if found.holder == wanted.holder:
                return await self._recover(keyed, found)
            # Another process is at it, or died at it, or upstream may still be: their time is
            # bounded. What has been made already need not wait for its end.
            if not has_looked and (outcome := await self._outcome_so_far(keyed, found)):
                return outcome
            has_looked = True
            await self._end_of_hold(keyed, found)

    async def _end_of_hold(self, keyed: _Keyed, held: Attempt) -> None:
        """Wait until an attempt is answered, forgotten or let go, without writing anything."""
        seconds = _FIRST_WAIT_SECONDS
        while True:
            await asyncio.sleep(seconds)
            found = await self._ledger.find(keyed.place)
            if found is None or found.contact is not None or found.holder != held.holder:
                return
            if found.held_until <= datetime.now(UTC):
                return
            seconds = min(seconds * 2, _LONGEST_WAIT_SECONDS)

    async def _renewed(self, keyed: _Keyed, attempt: Attempt) -> Attempt:
        """Hold an attempt for a whole call from now, where the ledger took long to write it."""
        if datetime.now(UTC) - attempt.sent_at < _WRITTEN_WITHIN:
            return attempt
        began = datetime.now(UTC)
        renewed = attempt._replace(held_until=began + self._hold)
        is_held = await self._ledger.put(keyed.place, attempt.holder, renewed)
        if not is_held or datetime.now(UTC) - began >= _WRITTEN_WITHIN:
            await self._note(keyed, attempt, None)
            raise SourceUnavailable("the ledger is too slow")
        return renewed

    async def _outcome_so_far(self, keyed: _Keyed, held: Attempt) -> CreateContactOutcome | None:
        try:
            found = await self._look_up(keyed.caller, held.advertiser_id, held.email)
        except SourceUnavailable:
            return None
        if found is not None and not isinstance(found, Contact):
            return found
        if found is None or not self._made_by(keyed.caller, held, found):
            return None
        return policy.repeat(keyed.contact, policy.Earlier(held.fingerprint, found), dry_run=False)

    def _attempt(self, keyed: _Keyed) -> Attempt:
        now = datetime.now(UTC)
        return Attempt(
            fingerprint=keyed.fingerprint,
            advertiser_id=keyed.contact.advertiser_id,
            email=keyed.contact.email,
            sent_at=now,
            holder=secrets.token_hex(16),
            held_until=now + self._hold,
        )

    async def _call(
        self, keyed: _Keyed, attempt: Attempt, unanswered: Attempt | None = None
    ) -> CreateContactOutcome:
        """Make the call of an attempt, and note in the ledger what came of it.

        `unanswered` is the earlier attempt that this one repeats: if the contact is there by now,
        that one has made it.
        """
        try:
            outcome = await self._send(keyed.caller, keyed.contact, dry_run=False)
        except UpstreamUnavailable as error:
            if error.delivery is Delivery.NEVER_SENT:
                await self._note(
                    keyed, attempt, None if unanswered is None else _let_go(unanswered)
                )
            elif error.delivery is Delivery.OVER:
                await self._note(keyed, attempt, _let_go(attempt))
            raise
        match outcome:
            case Created(contact):
                await self._note(keyed, attempt, attempt._replace(contact=contact))
            case _ if unanswered is None:
                await self._note(keyed, attempt, None)
            case Conflict(Contact() as existing) if self._made_by(
                keyed.caller, unanswered, existing
            ):
                await self._note(keyed, attempt, _answered(unanswered, attempt, existing))
                earlier = policy.Earlier(unanswered.fingerprint, existing)
                return policy.repeat(keyed.contact, earlier, dry_run=False)
            case _:
                # What became of the earlier attempt is still not known.
                await self._note(keyed, attempt, _let_go(unanswered))
                if isinstance(outcome, Conflict) and outcome.existing is None:
                    raise SourceUnavailable("a conflict may be with the attempt's own contact")
        return outcome

    async def _recover(self, keyed: _Keyed, unanswered: Attempt) -> CreateContactOutcome:
        """Find out what became of an attempt whose answer was never seen; send only if nothing."""
        try:
            found = await self._look_up(keyed.caller, unanswered.advertiser_id, unanswered.email)
        except SourceUnavailable:
            await self._note(keyed, unanswered, _let_go(unanswered))
            raise
        if found is not None and not isinstance(found, Contact):
            await self._note(keyed, unanswered, _let_go(unanswered))
            return found
        if found is not None and self._made_by(keyed.caller, unanswered, found):
            await self._note(keyed, unanswered, unanswered._replace(contact=found))
            earlier = policy.Earlier(unanswered.fingerprint, found)
            return policy.repeat(keyed.contact, earlier, dry_run=False)
        if found is not None and email_key(keyed.contact.email) == email_key(found.details.email):
            await self._note(keyed, unanswered, None)
            return Conflict(found, policy.ADDRESS_IS_TAKEN)
        again = self._attempt(keyed)._replace(holder=unanswered.holder)
        if again.fingerprint == unanswered.fingerprint:
            again = again._replace(sent_at=unanswered.sent_at)
        if not await self._ledger.put(keyed.place, unanswered.holder, again):
            raise SourceUnavailable("another process has taken the creation over")
        return await self._call(keyed, again, unanswered)

    async def _repeat(
        self, keyed: _Keyed, found: Attempt, contact: Contact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Return what the key created, to a caller whom upstream still lets in.

        While upstream cannot be asked, a caller is told what they have been told before.
        """
        try:
            seen = await self._look_up(
                keyed.caller, contact.details.advertiser_id, contact.details.email
            )
        except SourceUnavailable:
            seen = None
        if isinstance(seen, Unauthorized | Forbidden | RateLimited):
            return seen
        if isinstance(seen, Contact) and seen.id == contact.id:
            contact = seen
        earlier = policy.Earlier(found.fingerprint, contact)
        return policy.repeat(keyed.contact, earlier, dry_run=dry_run)

    async def _send(
        self, caller: Operations, contact: NewContact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Send a creation; where upstream refuses a second contact, find the first."""
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
        """Find the contact with an address on the brand of an advertiser, in the time of a call."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._found(caller, advertiser_id, email)
        except TimeoutError:
            raise SourceUnavailable("a look-up takes too long") from None

    async def _found(
        self, caller: Operations, advertiser_id: int, email: str
    ) -> Contact | ReadRefusal | None:
        wanted = ContactFilter(advertiser_id=advertiser_id, email=email)
        found = await self._all_with(email, caller, wanted)
        if not isinstance(found, list):
            return found
        if found:
            return found[0]
        # By the id of a network's record upstream may not find what is on its HiEnergy record.
        others = await self._all_with(email, caller, ContactFilter(email=email))
        if not isinstance(others, list):
            return others
        if not others:
            return None
        advertiser = _understood(await caller.advertiser(advertiser_id))
        if not isinstance(advertiser, Advertiser):
            return advertiser
        records = {advertiser.id, advertiser.hienergy_id}
        return next(
            (contact for contact in others if contact.details.advertiser_id in records), None
        )

    async def _all_with(
        self, email: str, caller: Operations, wanted: ContactFilter
    ) -> list[Contact] | ReadRefusal:
        page = _understood(await caller.contacts(wanted, _FIRST))
        if not isinstance(page, Page):
            return page
        key = email_key(email)
        found = [contact for contact in page.items if email_key(contact.details.email) == key]
        if not found and page.has_more:
            raise SourceUnavailable("a look-up by e-mail address finds others")
        return found

    def _made_by(self, caller: Operations, unanswered: Attempt, contact: Contact) -> bool:
        """Tell whether an attempt made a contact, or it was there before, or is another's."""
        if email_key(contact.details.email) != email_key(unanswered.email):
            return False
        ahead = caller.clock_ahead()
        earliest = (
            unanswered.sent_at - _CLOCKS_AGREE_WITHIN
            if ahead is None
            else unanswered.sent_at + ahead - _TIMES_ARE_WRITTEN_WITHIN
        )
        return contact.created_at >= earliest

    async def _note(self, keyed: _Keyed, attempt: Attempt, noted: Attempt | None) -> None:
        """Write what came of an attempt; where that fails, a repeat looks the contact up."""
        try:
            await self._ledger.put(keyed.place, attempt.holder, noted)
        except SourceUnavailable as error:
            _log.warning(
                "the ledger does not answer; a repeat will ask upstream", cause=error.reason
            )
        except Exception as error:  # noqa: BLE001 - what upstream has answered stands
            _log.error("the ledger has failed; a repeat will ask upstream", exc_info=error)


async def _end_of(
    task: asyncio.Task[CreateContactOutcome], deadline: float
) -> CreateContactOutcome:
    """Wait for a task until a monotonic time; it goes on even if all who wait have gone away."""
    await asyncio.wait({task}, timeout=deadline - time.monotonic())
    if not task.done():
        raise SourceUnavailable("a creation takes too long")
    return task.result()


def _understood(found: T | ReadRefusal) -> T | ReadRefusal:
    """Return what a look-up found; it asks for nothing that could be wrong of a caller's."""
    if isinstance(found, InvalidInput):
        raise SourceUnavailable("upstream does not understand a look-up")
    return found


def _place(credential: Credential, idempotency_key: str) -> bytes:
    """Return where a key of this caller's stands in the ledger: neither can be told from it."""
    secret = credential.secret
    return hashlib.sha256(f"{len(secret)}:{secret}:{idempotency_key}".encode()).digest()


def _let_go(attempt: Attempt) -> Attempt:
    return attempt._replace(held_until=datetime.now(UTC))


def _answered(unanswered: Attempt, holder: Attempt, contact: Contact) -> Attempt:
    return unanswered._replace(held_until=holder.held_until, contact=contact)
