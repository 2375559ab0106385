"""Creations upstream: at most one contact for each idempotency key, whatever HiEnergy does.

HiEnergy documents neither idempotency nor what becomes of a duplicate, and a new contact may be in
no list. So each attempt is written to the ledger before its call and closed after the response. A
repeat of an attempt without a response looks for the contact. It sends the creation again only if
HiEnergy is known to refuse or absorb repeats; otherwise the outcome is unknown.
"""

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

import structlog

from contact_gateway.access.bounded_dict import BoundedDict
from contact_gateway.access.principals import Credential
from contact_gateway.contacts import policy
from contact_gateway.contacts.contact import Contact, NewContact, completed
from contact_gateway.contacts.ledger import NO_HOLDER, Attempt, Ledger
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    Details,
    IdempotencyKeyReused,
    OutcomeUnknown,
    RateLimited,
    Unauthorized,
)
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream import lookup
from contact_gateway.upstream.calls import Delivery, UpstreamUnavailable
from contact_gateway.upstream.lookup import Found, NotAccepted
from contact_gateway.upstream.operations import Operations
from contact_gateway.upstream.responses import Unnamed, dated
from contact_gateway.upstream.traits import Traits

# A lease lasts for the timeout of a creation plus this, for delays of the ledger and of the loop.
_LEASE_MARGIN: Final = timedelta(seconds=2)
# A lease that took longer than this to write is renewed before the call.
_MAX_LEDGER_DELAY: Final = timedelta(seconds=1)
_MIN_POLL_SECONDS: Final = 0.05
_MAX_POLL_SECONDS: Final = 0.5
# How many lookups a caller may wait for besides creations: its own, and one of another caller.
_MAX_LOOKUPS_PER_CALLER: Final = 2
# How long to wait before an entry is written again that the ledger could not take.
_RECORD_AGAIN_SECONDS: Final = 1.0
# Each takes a kilobyte. While the disk is full, every creation leaves one.
_MAX_UNSENT: Final = 10_000
# When to look again once upstream surely no longer processes the call.
_LOOK_AGAIN_SECONDS: Final = 60

_log = structlog.get_logger(__name__)


class Lost(NamedTuple):
    """The answer to a creation that was sent is lost, or `is_unnamed`: it names no contact.

    `details` are those of what came instead.
    """

    is_unnamed: bool = False
    details: Details = MappingProxyType({})


class Keyed(NamedTuple):
    """A submission under an idempotency key."""

    caller: Operations
    contact: NewContact
    ledger_key: bytes
    fingerprint: bytes


class _InFlight(NamedTuple):
    submission: Keyed
    task: asyncio.Task[CreateContactOutcome]


def derived_header(ledger_key: bytes, fingerprint: bytes) -> str:
    """Return the `Idempotency-Key` that upstream gets for a submission under a key of the ledger.

    Upstream may ignore it, or refuse it with another input, even if it refused the first one. The
    part before the hyphen is that of the key. It reveals nothing.
    """
    digest = hashlib.sha256(b"upstream:" + ledger_key).hexdigest()
    return f"{digest}-{fingerprint.hex()[:16]}"


def keyed(caller: Operations, contact: NewContact, idempotency_key: str) -> Keyed:
    """Return a submission under a key that belongs to the person, not to the token.

    The digest reveals neither the person nor the key.
    """
    scope = caller.credential.scope()
    preimage = f"{len(scope)}:{scope}:{idempotency_key}"
    ledger_key = hashlib.sha256(preimage.encode(errors="surrogatepass")).digest()
    return Keyed(caller, contact, ledger_key, contact.fingerprint())


def unknown_outcome(
    message: str, contact: NewContact, sent_at: datetime, details: Details = MappingProxyType({})
) -> OutcomeUnknown:
    """Return the outcome of a creation that the ledger has no attempt of, or none to look up."""
    return OutcomeUnknown(message, _LOOK_AGAIN_SECONDS, contact.advertiser_id, sent_at, details)


def scope_digest(credential: Credential) -> bytes:
    """Return a digest of the person that a credential belongs to."""
    return hashlib.sha256(credential.scope().encode(errors="surrogatepass")).digest()


async def listed_conflict(
    caller: Operations, contact: NewContact
) -> Conflict | Unauthorized | RateLimited | None:
    """Return the conflict that a first look shows, or why the key is refused; else None."""
    try:
        found = await lookup.find_contacts(caller, contact, is_first_look=True)
    except SourceUnavailable:
        return None
    match found:
        case Unauthorized() | RateLimited():
            return found
        case Found(of_brand=(existing, *_)):
            return Conflict(existing, policy.ADDRESS_IS_TAKEN)
        case _:
            return None


class Creations:
    """Creates contacts upstream."""

    def __init__(
        self,
        ledger: Ledger,
        traits: Traits,
        *,
        read_timeout_seconds: float,
        create_timeout_seconds: float,
    ) -> None:
        self._ledger: Final = ledger
        self.traits: Final = traits
        self._lease: Final = timedelta(seconds=create_timeout_seconds) + _LEASE_MARGIN
        self._max_wait_seconds: Final = (
            self._lease.total_seconds() + create_timeout_seconds
        ) + _MAX_LOOKUPS_PER_CALLER * read_timeout_seconds
        self._in_flight: Final[dict[bytes, _InFlight]] = {}
        # Entries that the ledger could not take yet.
        self._unrecorded: Final[dict[bytes, tuple[str, Attempt | None]]] = {}
        self._recording: asyncio.Task[None] | None = None
        # Attempts that were never sent, because the ledger failed to claim them.
        self._unsent: Final = BoundedDict[bytes, Attempt](_MAX_UNSENT)

    async def close(self) -> None:
        """Wait for the creations in flight, and write what the ledger could not take before."""
        tasks = [in_flight.task for in_flight in self._in_flight.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._recording is not None:
            self._recording.cancel()
        await self._record_again()

    async def create_unkeyed(self, caller: Operations, contact: NewContact) -> CreateContactOutcome:
        """Create a contact without an idempotency key.

        Raises:
            SourceUnavailable: nothing was created.
        """
        looks_first = self.traits.needs_a_look_first
        if looks_first and (refused := await listed_conflict(caller, contact)) is not None:
            return refused
        sent_at = _now()
        answer = await self._send(caller, contact, None, since=sent_at)
        if not isinstance(answer, Lost):
            return answer
        message = policy.UNNAMED_WITHOUT_KEY if answer.is_unnamed else policy.LOST_WITHOUT_KEY
        return unknown_outcome(message, contact, sent_at, answer.details)

    async def create(self, submission: Keyed) -> CreateContactOutcome:
        """Create a contact, or return what its idempotency key created before.

        Raises:
            SourceUnavailable: nothing was created by this call.
        """
        deadline = time.monotonic() + self._max_wait_seconds
        still_in_flight = unknown_outcome(policy.STILL_IN_FLIGHT, submission.contact, _now())
        # A finished task is not shared: its outcome was another caller's.
        while (other := self._in_flight.get(submission.ledger_key)) and not other.task.done():
            await asyncio.wait({other.task}, timeout=deadline - time.monotonic())
            if not other.task.done():
                return still_in_flight
            if other.submission.caller.credential.digest != submission.caller.credential.digest:
                # Upstream has not accepted this credential yet, so it learns nothing here.
                continue
            outcome = other.task.result()
            if isinstance(outcome, Created):
                earlier = policy.Earlier(other.submission.fingerprint, outcome.contact)
                return policy.repeat(submission.contact, earlier, dry_run=False)
            if other.submission.fingerprint == submission.fingerprint:
                return outcome
        task = asyncio.create_task(self._create_once(submission))
        self._in_flight[submission.ledger_key] = _InFlight(submission, task)
        task.add_done_callback(lambda done: self._remove(submission.ledger_key, done))
        # The creation goes on even if its callers disconnect.
        await asyncio.wait({task}, timeout=deadline - time.monotonic())
        return task.result() if task.done() else still_in_flight

    def _remove(self, ledger_key: bytes, done: asyncio.Task[CreateContactOutcome]) -> None:
        in_flight = self._in_flight.get(ledger_key)
        if in_flight is not None and in_flight.task is done:
            del self._in_flight[ledger_key]
        if not done.cancelled():
            # Mark the exception as retrieved: all callers may have disconnected.
            done.exception()

    async def preview_of_repeat(self, submission: Keyed) -> CreateContactOutcome | None:
        """Return what a dry run says about an idempotency key that was used before, or None.

        Raises:
            SourceUnavailable: upstream has not accepted the credential.
        """
        found = await self._find(submission.ledger_key)
        if found is None:
            return None
        if found.contact is not None:
            return await self._replay(submission, found, found.contact, dry_run=True)
        if found.fingerprint != submission.fingerprint:
            return await self._refusal(submission) or IdempotencyKeyReused(policy.KEY_REUSED)
        return None

    async def record_created(self, submission: Keyed, answer: Created | Unnamed) -> None:
        """Store that a dry run turned out to create a contact."""
        attempt = self._new_attempt(submission)
        created = (
            attempt._replace(contact=answer.contact)
            if isinstance(answer, Created)
            else attempt._replace(holder=NO_HOLDER, is_unnamed=True)
        )
        try:
            await self._ledger.claim(submission.ledger_key, created)
        except SourceUnavailable as error:
            _log.warning("the ledger does not respond", cause=error.reason)

    async def _create_once(self, submission: Keyed) -> CreateContactOutcome:
        """Send a creation, unless the ledger has an attempt under its key."""
        key = submission.ledger_key
        has_looked = False
        while True:
            found = await self._find(key)
            if found is None and not has_looked:
                has_looked, refused = True, None
                if self.traits.needs_a_look_first:
                    refused = await listed_conflict(submission.caller, submission.contact)
                if isinstance(refused, Conflict):
                    # Another process may have created it under this key in the meantime.
                    found = await self._find(key)
                if found is None and refused is not None:
                    return refused
            if found is None:
                wanted = self._new_attempt(submission)
                try:
                    found = await self._ledger.claim(key, wanted)
                except SourceUnavailable:
                    # The claim may be written all the same.
                    self._unsent[key] = wanted
                    raise
                if found == wanted:
                    return await self._send_attempt(submission, wanted)
            if found.contact is not None:
                return await self._replay(submission, found, found.contact, dry_run=False)
            if found.is_in_flight(_now()):
                # A contact that a list shows by now may be of another caller, so it proves nothing.
                with suppress(SourceUnavailable):
                    if (refusal := await self._refusal(submission)) is not None:
                        return refusal
                await self._wait_for_lease(key, found)
                continue
            if found.fingerprint != submission.fingerprint:
                return await self._refusal(submission) or IdempotencyKeyReused(policy.KEY_REUSED)
            outcome = await self._look_for(submission, found)
            if not isinstance(outcome, OutcomeUnknown):
                return outcome
            may_repeat = self.traits.absorbs_repeats and not found.is_unnamed
            if not may_repeat or found.held_until > _now():
                return outcome
            wanted = self._new_attempt(submission)
            claimed = await self._ledger.claim(key, wanted)
            if claimed.holder == wanted.holder:
                still_open = None if claimed == wanted else found._replace(holder=NO_HOLDER)
                return await self._send_attempt(submission, claimed, still_open)

    async def _look_for(self, submission: Keyed, attempt: Attempt) -> CreateContactOutcome:
        """Return the contact of an open attempt if HiEnergy shows it; else that it is unknown.

        Raises:
            SourceUnavailable: upstream has not accepted the credential.
        """
        caller = submission.caller
        found = await lookup.find_contacts(caller, attempt)
        if not isinstance(found, Found):
            return found
        since = lookup.earliest_creation(attempt.sent_at, caller)
        contact = await self._of_no_key(lookup.created_since(found.of_brand, since))
        if contact is not None:
            contact = completed(contact, submission.contact)
            # The time for which it is stored begins now.
            closed = attempt._replace(contact=contact, held_until=_now())
            is_closed = await self._record(submission.ledger_key, attempt.holder, closed)
            return Created(contact, replayed=True) if is_closed else self._unknown(attempt)
        undated = [contact for contact in found.of_brand if contact.created_at is None]
        elsewhere = lookup.created_since(found.of_unknown_brand, since)
        return self._unknown(attempt, next(iter((*undated, *elsewhere)), None))

    async def _of_no_key(self, contacts: Iterable[Contact]) -> Contact | None:
        """Return the first contact that no idempotency key has created."""
        for contact in contacts:
            if not await self._ledger.has_contact(contact.id):
                return contact
        return None

    async def _send_attempt(
        self, submission: Keyed, attempt: Attempt, still_open: Attempt | None = None
    ) -> CreateContactOutcome:
        """Send the creation of an attempt, and record its outcome in the ledger.

        `still_open` is the earlier attempt that this one repeats. If the contact turns out to
        exist, that attempt created it.
        """
        caller, contact, key, fingerprint = submission
        header, holder, sent_at = derived_header(key, fingerprint), attempt.holder, attempt.sent_at
        attempt = await self._renew_lease(key, attempt, still_open)
        try:
            answer = await self._send(caller, contact, header, since=sent_at)
        except UpstreamUnavailable:
            await self._record(key, holder, still_open)
            raise
        entry: Attempt | None = still_open
        outcome: CreateContactOutcome | None = None
        candidate: Contact | None = None
        details: Details = MappingProxyType({})
        match answer:
            case Created(created):
                entry, outcome = attempt._replace(contact=created), answer
            case Lost(is_unnamed, details):
                entry = attempt._replace(holder=NO_HOLDER, is_unnamed=is_unnamed)
            case Conflict(candidate) if still_open is not None:
                if candidate is not None and lookup.is_since(candidate, sent_at, caller):
                    entry = attempt._replace(contact=candidate)
                    outcome = Created(candidate, replayed=True)
                elif candidate is not None and lookup.is_older(candidate, sent_at, caller):
                    # HiEnergy refuses duplicates, and this one is older: the attempt made none.
                    entry, outcome = None, answer
            case _:
                outcome = answer
        is_recorded = await self._record(key, holder, entry)
        if entry is not None and entry.contact is not None and not is_recorded:
            # After the lease, a lookup may have acknowledged another contact for the key.
            return self._unknown(attempt)
        if outcome is not None:
            return outcome
        # The time until the next look is counted from now: the ledger may have been slow.
        return self._unknown(entry or attempt, candidate, details)

    async def _send(
        self, caller: Operations, contact: NewContact, header: str | None, *, since: datetime
    ) -> CreateContactOutcome | Lost:
        """Send a creation once. A 2xx with a contact that is older than `since` is a conflict.

        Raises:
            UpstreamUnavailable: nothing was created.
        """
        started_at = time.monotonic()
        try:
            answer = await caller.send_creation(contact, header)
        except UpstreamUnavailable as error:
            if error.delivery is not Delivery.UNKNOWN:
                raise
            _log.warning("the answer to a creation was lost", cause=error.reason)
            return Lost(details=error.details)
        # The clock may have been set back during the call.
        since = min(since, _now() - timedelta(seconds=time.monotonic() - started_at))
        match answer:
            case Created(created) if lookup.is_older(created, since, caller):
                self.traits.has_refused_a_duplicate = True
                return Conflict(created, policy.ADDRESS_IS_TAKEN)
            case Created():
                return dated(answer, _now())
            case Unnamed():
                _log.warning("the answer to a creation names no contact")
                shown = await self._find_quietly(caller, contact)
                earliest = lookup.earliest_creation(since, caller)
                with suppress(SourceUnavailable):
                    made = await self._of_no_key(lookup.created_since(shown, earliest))
                    if made is not None:
                        return Created(completed(made, contact))
                return Lost(is_unnamed=True)
            case Conflict(existing):
                if existing is None:
                    existing = next(iter(await self._find_quietly(caller, contact)), None)
                if existing is not None:
                    # Without a contact, a 409 may have another reason.
                    self.traits.has_refused_a_duplicate = True
                return replace(answer, existing=existing)
            case _:
                return answer

    async def _find_quietly(self, caller: Operations, contact: NewContact) -> Sequence[Contact]:
        """Look for a contact that HiEnergy reports to exist; return nothing if that fails."""
        with suppress(SourceUnavailable):
            found = await lookup.find_contacts(caller, contact)
            if isinstance(found, Found):
                return found.of_brand
        return ()

    async def _replay(
        self, submission: Keyed, attempt: Attempt, contact: Contact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Return what the key created, once upstream has accepted the credential.

        Raises:
            SourceUnavailable: upstream does not respond.
        """
        found = await lookup.find_contacts(submission.caller, attempt, is_first_look=True)
        if not isinstance(found, Found):
            return found
        current = found.with_id(contact.id) or contact
        if attempt.fingerprint == submission.fingerprint:
            current = completed(current, submission.contact)
        earlier = policy.Earlier(attempt.fingerprint, current)
        return policy.repeat(submission.contact, earlier, dry_run=dry_run)

    async def _refusal(self, submission: Keyed) -> NotAccepted | None:
        """Return why upstream does not accept the credential, or None if it does.

        Raises:
            SourceUnavailable: upstream does not respond.
        """
        caller, contact = submission.caller, submission.contact
        found = await lookup.find_contacts(caller, contact, is_first_look=True)
        return None if isinstance(found, Found) else found

    async def _wait_for_lease(self, key: bytes, held: Attempt) -> None:
        """Poll the ledger until an attempt is closed or deleted, or its lease ends."""
        seconds = _MIN_POLL_SECONDS
        while True:
            await asyncio.sleep(seconds)
            found = await self._find(key)
            if found is None or found.holder != held.holder or not found.is_in_flight(_now()):
                return
            seconds = min(seconds * 2, _MAX_POLL_SECONDS)

    async def _renew_lease(
        self, key: bytes, attempt: Attempt, still_open: Attempt | None
    ) -> Attempt:
        """Extend a lease to a whole call from now, if the ledger was slow to write it.

        Raises:
            SourceUnavailable: the ledger is still slow. The entry is `still_open` again.
        """
        claimed_at = attempt.held_until - self._lease
        if _now() - claimed_at < _MAX_LEDGER_DELAY:
            return attempt
        started_at = _now()
        renewed = attempt._replace(held_until=started_at + self._lease)
        is_held = await self._ledger.put(key, attempt.holder, renewed)
        if not is_held or _now() - started_at >= _MAX_LEDGER_DELAY:
            await self._record(key, attempt.holder, still_open)
            raise SourceUnavailable("the ledger is too slow")
        return renewed

    def _new_attempt(self, submission: Keyed) -> Attempt:
        now = _now()
        return Attempt(
            scope=scope_digest(submission.caller.credential),
            fingerprint=submission.fingerprint,
            advertiser_id=submission.contact.advertiser_id,
            email=submission.contact.email,
            sent_at=now,
            holder=secrets.token_hex(16),
            held_until=now + self._lease,
        )

    async def _find(self, key: bytes) -> Attempt | None:
        """Return the ledger's entry, after writing one that the ledger could not take before."""
        await self._record_unrecorded(key)
        found = await self._ledger.find(key)
        if found is not None and found == self._unsent.pop(key, None):
            await self._ledger.put(key, found.holder, None)
            return None
        return found

    async def _record(self, key: bytes, holder: str, entry: Attempt | None) -> bool:
        """Replace or delete an attempt's entry, now or once the ledger takes it.

        Return False if the entry is closed already, or of another holder.
        """
        try:
            return await self._ledger.put(key, holder, entry)
        except SourceUnavailable as error:
            _log.warning("the ledger does not respond", cause=error.reason)
        except Exception as error:  # noqa: BLE001 - upstream's response is returned anyway
            _log.error("the ledger failed", exc_info=error)
        self._unrecorded[key] = holder, entry
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record_later())
        return True

    async def _record_later(self) -> None:
        """Write the entries that the ledger could not take: another worker may look them up."""
        while self._unrecorded:
            await asyncio.sleep(_RECORD_AGAIN_SECONDS)
            await self._record_again()

    async def _record_again(self) -> None:
        """Write the entries that the ledger could not take, unless it does not respond."""
        for key in tuple(self._unrecorded):
            try:
                await self._record_unrecorded(key)
            except SourceUnavailable:
                return
            except Exception:  # noqa: BLE001, S112 - it was logged, and the others may be written
                continue

    async def _record_unrecorded(self, key: bytes) -> None:
        unrecorded = self._unrecorded.get(key)
        if unrecorded is not None:
            await self._ledger.put(key, *unrecorded)
            if self._unrecorded.get(key) is unrecorded:
                del self._unrecorded[key]

    def _unknown(
        self,
        attempt: Attempt,
        candidate: Contact | None = None,
        details: Details = MappingProxyType({}),
    ) -> OutcomeUnknown:
        """Return that the outcome of an attempt is unknown; look again when it can be known."""
        seconds_left = math.ceil((attempt.held_until - _now()).total_seconds())
        return OutcomeUnknown(
            policy.unknown_outcome_message(is_unnamed=attempt.is_unnamed, candidate=candidate),
            seconds_left if seconds_left > 0 else _LOOK_AGAIN_SECONDS,
            attempt.advertiser_id,
            attempt.sent_at,
            details,
        )


def _now() -> datetime:
    return datetime.now(UTC)
