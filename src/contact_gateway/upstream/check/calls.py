"""The check of upstream's real API: a few calls, and what their answers show.

Only an operator with a key can call the real API.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeAlias

from contact_gateway.access.principals import Credential
from contact_gateway.settings import Known
from contact_gateway.upstream.calls import Call, Delivery, Response, UpstreamUnavailable
from contact_gateway.upstream.check.answers import Answer, Reads, has_email
from contact_gateway.upstream.check.findings import (
    LARGE_PAGE_SIZE,
    SMALL_PAGE_SIZE,
    Finding,
    findings_of_reads,
)
from contact_gateway.upstream.check.shapes import Row, owner_of
from contact_gateway.upstream.check.trial import (
    Look,
    Trial,
    TrialContact,
    findings_of_trial,
    settings_of,
)
from contact_gateway.variables import PREFIX, SettingsError

Send: TypeAlias = Callable[[Call], Awaitable[Response]]
"""Sends a call; raises `UpstreamUnavailable` if there is no usable response."""

LOOK_AFTER_SECONDS: Final = (0.0, 2.0, 7.0)
"""When the lists are searched for the new contact, in seconds after its creations."""

_ABSENT_EMAIL: Final = "no-such-contact@example.com"
# Anything else may need escaping, or change the path.
_ID: Final = re.compile("[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found."""

    findings: Sequence[Finding]
    settings: Mapping[str, Known]
    answers: Sequence[Answer] = field(repr=False)


async def check(
    send: Send,
    credential: Credential,
    trial: TrialContact | None = None,
    *,
    create_timeout_seconds: float | None = None,
) -> Result:
    """Call upstream's API and return what its answers show. Without a trial, only read.

    Args:
        send: sends a call.
        credential: the key of an admin.
        trial: the contact to create.
        create_timeout_seconds: the timeout of a creation; by default that of a read.

    Raises:
        SettingsError: the first call is refused, or not answered with JSON.
    """
    caller = _Caller(send, credential, create_timeout_seconds)
    reads = await _read(caller)
    tried = await _try(caller, trial)
    findings = [*findings_of_reads(reads), *findings_of_trial(tried)]
    return Result(findings, settings_of(findings), caller.answers)


@dataclass(slots=True)
class _Caller:
    """Calls one at a time, and keeps the answers. After a 429 it calls no more."""

    send: Send
    credential: Credential
    create_timeout_seconds: float | None
    answers: list[Answer] = field(default_factory=list)
    is_limited: bool = False

    async def get(self, path: str, *, record: str | None = None, **query: str) -> Answer:
        """Send a GET; `record` takes the place of `{id}` in the path."""
        return await self._answer("GET", path, record, query)

    async def post(self, contact: Mapping[str, object], **query: str) -> Answer:
        """Send a creation."""
        return await self._answer("POST", "contacts", None, query, {"contact": contact})

    async def _answer(
        self,
        method: str,
        path: str,
        record: str | None,
        query: Mapping[str, str],
        body: object = None,
    ) -> Answer:
        names = "&".join(query)
        asked = f"{method} /{path}?{names}" if names else f"{method} /{path}"
        if self.is_limited:
            return Answer(asked, reason="an earlier call was answered with 429")
        target = path if record is None else path.replace("{id}", record)
        timeout_seconds = None if method == "GET" else self.create_timeout_seconds
        call = Call(
            method, target, self.credential, query or None, body, timeout_seconds=timeout_seconds
        )
        try:
            response = await self.send(call)
        except UpstreamUnavailable as error:
            reason = f"{asked} was not answered"
            if error.status is not None:
                reason = f"{asked} was answered with {error.status}"
            elif error.delivery is Delivery.NEVER_SENT:
                reason = "no connection was made"
            answer = Answer(asked, reason=reason, error=error.reason)
        else:
            answer = Answer(asked, response, time.time())
            self.is_limited = response.status == HTTPStatus.TOO_MANY_REQUESTS
        self.answers.append(answer)
        return answer


async def _read(caller: _Caller) -> Reads:
    """Send the reads, twelve at most."""
    small = str(SMALL_PAGE_SIZE)
    reads = Reads(contacts=await caller.get("contacts", page="1", per_page=small))
    _require_list(reads.contacts)
    reads.next_contacts = await caller.get("contacts", page="2", per_page=small)
    reads.large_page = await caller.get("contacts", page="1", per_page=str(LARGE_PAGE_SIZE))
    rows = reads.contact_rows
    emails = (row.fields.get("email") for row in rows)
    reads.email = next((each for each in emails if isinstance(each, str) and "@" in each), None)
    contact_id = next(filter(None, map(_id_of, rows)), None)
    owner = next((each for each in map(owner_of, rows) if each and _ID.fullmatch(each)), None)

    reads.contacts_by_absent_email = await caller.get("contacts", email=_ABSENT_EMAIL)
    if reads.email is not None:
        reads.contacts_by_email = await caller.get("contacts", email=reads.email)
    if contact_id is not None:
        reads.contact = await caller.get("contacts/{id}", record=contact_id)

    reads.advertisers = await caller.get("advertisers", page="1", per_page="25")
    reads.absent_advertiser = await caller.get("advertisers/{id}", record="0")
    an_id = owner or next(filter(None, map(_id_of, reads.advertisers.rows)), None)
    if an_id is None:
        return reads
    reads.advertiser_id, reads.is_owner = an_id, owner is not None
    reads.advertiser = await caller.get("advertisers/{id}", record=an_id)
    reads.contacts_of_advertiser = await _contacts_of(caller, an_id)
    reads.contacts_by_advertiser = await caller.get("contacts", advertiser_id=an_id, per_page="100")
    record = reads.advertiser.row
    hienergy_id = an_id if record is None else str(record.fields.get("hienergy_id") or record.id)
    reads.advertisers_by_hienergy_id = await caller.get(
        "advertisers", hienergy_id=hienergy_id, page="1", per_page="25"
    )
    return reads


def _require_list(answer: Answer) -> None:
    """Raise if the first answer shows that all others would be of no use."""
    setting = f"{PREFIX}UPSTREAM_URL"
    if answer.response is None:
        raise SettingsError(f"{setting}: HiEnergy's API does not answer: {answer.error}.")
    status = answer.response.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise SettingsError(f"HIENERGY_API_KEY: HiEnergy refuses the key with {status}.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise SettingsError("HIENERGY_API_KEY: the key has no calls left. Try again in an hour.")
    if not answer.is_success or answer.response.body is None:
        raise SettingsError(
            f"{setting}: GET /contacts is answered with {status}, not with a list. For HiEnergy "
            "the URL is https://app.hienergy.ai/api/v1."
        )


async def _try(caller: _Caller, contact: TrialContact | None) -> Trial:
    """Create the contact, and again; look for it; try a dry run if that is wanted."""
    if contact is None:
        no_contact = TrialContact(0, "", tries_dry_run=False)
        return _untried(no_contact, "it needs --create-test-contact")
    submitted = {
        "advertiser_id": contact.advertiser_id,
        "email": contact.email,
        "name": "Test of contact-gateway",
        "job_title": "Test",
    }
    before = await caller.get("contacts", email=contact.email)
    if before.response is None:
        return _untried(contact, before.reason)
    if any(has_email(row, contact.email) for row in before.rows):
        return _untried(contact, "the address has a contact already; use another one")
    trial = _untried(contact, "the creation did not succeed")
    trial.first = await caller.post(submitted)
    if not trial.first.is_success:
        return trial
    # At once: a duplicate may be detected late, and the gateway may repeat a creation at once.
    trial.repeat = await caller.post(submitted)
    await _look(caller, trial)
    if not contact.tries_dry_run:
        trial.dry_run = Answer("", reason="it needs --try-dry-run")
        return trial
    of_dry_run = {**submitted, "email": contact.dry_run_email}
    trial.dry_run = await caller.post(of_dry_run, dry_run="true")
    trial.after_dry_run = await caller.get("contacts", email=contact.dry_run_email)
    return trial


async def _look(caller: _Caller, trial: Trial) -> None:
    """Look for the new contact in all lists, until each shows it or the last look is done."""
    email, submitted, owner = trial.contact.email, str(trial.contact.advertiser_id), trial.owner
    waited = 0.0
    for seconds in LOOK_AFTER_SECONDS:
        await asyncio.sleep(seconds - waited)
        waited = seconds
        by_email = await caller.get("contacts", email=email)
        of_submitted = await _contacts_of(caller, submitted, email=email)
        of_owner = Answer("", reason="the answer to the creation shows no advertiser")
        if owner == submitted:
            of_owner = of_submitted
        elif owner is not None and _ID.fullmatch(owner):
            of_owner = await _contacts_of(caller, owner, email=email)
        trial.looks.append(Look(seconds, by_email, of_submitted, of_owner))
        lists = [each for each in (by_email, of_submitted, of_owner) if each.items is not None]
        if all(any(trial.is_new(row) for row in answer.rows) for answer in lists):
            break


async def _contacts_of(caller: _Caller, advertiser_id: str, **query: str) -> Answer:
    path = "advertisers/{id}/contacts"
    return await caller.get(path, record=advertiser_id, **query, per_page="100")


def _untried(contact: TrialContact, why: str) -> Trial:
    """Return a trial of which nothing was sent, and why."""
    nothing = Answer("", reason=why)
    return Trial(contact, first=nothing, repeat=nothing, dry_run=nothing, after_dry_run=nothing)


def _id_of(row: Row) -> str | None:
    return str(row.id) if _ID.fullmatch(str(row.id)) else None
