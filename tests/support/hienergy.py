"""A fake of HiEnergy's API that behaves as published, with a switch for each open trait."""

import json
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from contact_gateway.contacts.advertiser import Advertiser
from support.hienergy_callers import MEMBER_KEY, Caller, authenticated, jwt
from support.hienergy_documents import (
    ADVERTISERS,
    FIELDS,
    RefusedError,
    Reply,
    StoredContact,
    advertiser_row,
    contact_row,
    created_reply,
    duplicate_reply,
    error_reply,
    html_reply,
    json_reply,
    list_reply,
    network_of,
    one_reply,
)
from support.hienergy_traits import (
    DomainSearch,
    DryRun,
    Duplicates,
    ErrorBody,
    Fault,
    Mark,
    Paging,
    Rows,
    Shown,
    Traits,
)
from support.upstream import (
    End,
    RecordedUpstream,
    Recording,
    Request,
    recorded,
    recorded_upstream,
)

__all__ = (
    "ADVERTISERS",
    "MEMBER_KEY",
    "Arrival",
    "DomainSearch",
    "DryRun",
    "Duplicates",
    "ErrorBody",
    "Fault",
    "HiEnergy",
    "Mark",
    "Paging",
    "Rows",
    "Shown",
    "StoredContact",
    "Traits",
    "fake_hienergy",
    "jwt",
)

_PREFIX: Final = "/api/v1/"
_HOUR: Final = timedelta(hours=1)
_CUT_BYTES: Final = 20
_AFTER: Final = frozenset(
    {
        Fault.NONE,
        Fault.CLOSED_AFTER,
        Fault.RESET_AFTER,
        Fault.TRUNCATED_AFTER,
        Fault.SERVER_ERROR_AFTER,
        Fault.BAD_GATEWAY_AFTER,
        Fault.GATEWAY_TIMEOUT_AFTER,
        Fault.ROUTER_TIMEOUT_AFTER,
        Fault.STALLED_AFTER,
        Fault.HTML_SUCCESS,
    }
)


class Arrival(NamedTuple):
    """A creation that HiEnergy processed, whatever the outcome."""

    headers: Mapping[str, str]
    contact: Mapping[str, object]


@dataclass(slots=True)
class HiEnergy:
    """HiEnergy's API with its contacts: `answer` is for `recorded_upstream`."""

    traits: Traits = field(default_factory=Traits)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    contacts: list[StoredContact] = field(default_factory=list)
    """All that were ever made, in order."""

    creations: list[Arrival] = field(default_factory=list)
    """Every creation that was processed, unless it was an honoured dry run."""

    faults: deque[Fault] = field(default_factory=deque)
    """Each POST takes the first one."""

    upstream: RecordedUpstream = field(init=False)
    """The server, while `fake_hienergy` runs it."""

    _late: deque[Request] = field(default_factory=deque)
    _answered_keys: dict[tuple[str, str], Reply] = field(default_factory=dict)
    _inputs_of_keys: dict[tuple[str, str], Mapping[str, object]] = field(default_factory=dict)
    _calls: Counter[tuple[str, datetime]] = field(default_factory=Counter)
    _answers: int = 0

    @property
    def url(self) -> str:
        return self.upstream.url

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived, processed or not."""
        return self.upstream.requests

    def add(
        self,
        email: str | None,
        advertiser_id: int = 1001,
        *,
        rating: int = 1,
        created_at: datetime | None = None,
        **fields: object,
    ) -> StoredContact:
        """Put a contact there that came by another way. It is created now by default."""
        moment = created_at or self.now()
        contact = StoredContact(
            id=len(self.contacts) + 1,
            advertiser_id=advertiser_id,
            fields={"email": email, **fields},
            created_at=moment,
            updated_at=moment,
            rating=rating,
        )
        self.contacts.append(contact)
        return contact

    def process_late(self) -> None:
        """Process the requests whose fault has its effect later."""
        while self._late:
            self._process(self._late.popleft())

    def answer(self, request: Request) -> Recording:
        """Return the response to a request, or what its fault leaves of it."""
        has_fault = request.method == "POST" and self.faults
        fault = self.faults.popleft() if has_fault else Fault.NONE
        answer = self._process(request) if fault in _AFTER else Recording(b"")
        match fault:
            case Fault.NONE:
                return answer
            case Fault.REFUSED_BEFORE:
                return self._refusal(503, "HiEnergy is down for maintenance.")
            case Fault.CLOSED_BEFORE | Fault.CLOSED_AFTER:
                return Recording(b"", End.CLOSE)
            case Fault.RESET_BEFORE | Fault.RESET_AFTER:
                return Recording(b"", End.RESET)
            case Fault.TRUNCATED_AFTER:
                return replace(answer, raw=answer.raw[:-_CUT_BYTES], end=End.CLOSE)
            case Fault.SERVER_ERROR_BEFORE | Fault.SERVER_ERROR_AFTER:
                return self._refusal(500, "Something went wrong.")
            case Fault.BAD_GATEWAY_BEFORE | Fault.BAD_GATEWAY_AFTER:
                return self._recording(html_reply(502, "502 Bad Gateway"))
            case Fault.GATEWAY_TIMEOUT_BEFORE | Fault.GATEWAY_TIMEOUT_AFTER:
                return self._recording(html_reply(504, "504 Gateway Time-out"))
            case Fault.ROUTER_TIMEOUT_BEFORE | Fault.ROUTER_TIMEOUT_AFTER:
                return self._router_timeout()
            case Fault.ROUTER_TIMEOUT_UNTIL_LATER:
                self._late.append(request)
                return self._router_timeout()
            case Fault.STALLED_BEFORE | Fault.STALLED_AFTER:
                return Recording(b"", End.STALL)
            case Fault.STALLED_UNTIL_LATER:
                self._late.append(request)
                return Recording(b"", End.STALL)
            case Fault.HTML_SUCCESS:
                return self._recording(html_reply(200, "Created"))

    def _process(self, request: Request) -> Recording:
        target = urlsplit(request.target)
        segments = [unquote(part) for part in target.path.removeprefix(_PREFIX).split("/")]
        if request.method == "GET" and segments == ["schema"]:
            return self._recording(json_reply(200, {"openapi": "3.1.0", "paths": {}}))
        quota: dict[str, str] = {}
        try:
            caller = authenticated(request.headers)
            left = self._counted_call(caller)
            quota = self._quota(left)
            if left < 0:
                raise RefusedError(429, "Rate limit exceeded.")
            query = dict(parse_qsl(target.query, keep_blank_values=True))
            if request.method == "POST":
                reply = self._posted(request, segments, query, caller)
            else:
                reply = self._read(request.method, segments, query)
        except RefusedError as error:
            return self._recording(error, quota)
        return self._recording(reply, quota)

    def _recording(
        self, reply: Reply | RefusedError, headers: Mapping[str, str] | None = None
    ) -> Recording:
        self._answers += 1
        now, request_id = self.now(), f"hienergy-{self._answers}"
        general = {"Date": format_datetime(now.astimezone(UTC), usegmt=True)}
        general["X-Request-Id"] = request_id
        if isinstance(reply, RefusedError):
            if reply.status == 429 and self.traits.sends_retry_after:
                general["Retry-After"] = str(self._seconds_to_reset())
            reply = error_reply(self.traits, reply, request_id=request_id, now=now)
        return recorded(
            reply.status,
            reply.body,
            media_type=reply.media_type,
            headers={**general, **(headers or {})},
        )

    def _router_timeout(self) -> Recording:
        return self._recording(html_reply(503, "Application error"))

    def _refusal(self, status: int, message: str) -> Recording:
        return self._recording(RefusedError(status, message))

    def _hour(self) -> datetime:
        return self.now().replace(minute=0, second=0, microsecond=0)

    def _seconds_to_reset(self) -> int:
        return math.ceil((self._hour() + _HOUR - self.now()).total_seconds())

    def _counted_call(self, caller: Caller) -> int:
        """Count a call; return how many are left this hour."""
        place = (caller.person, self._hour())
        self._calls[place] += 1
        return self.traits.calls_per_hour - self._calls[place]

    def _quota(self, left: int) -> dict[str, str]:
        is_relative = self.traits.reset_in_seconds_from_now
        resets_at = int((self._hour() + _HOUR).timestamp())
        return {
            "X-RateLimit-Limit": str(self.traits.calls_per_hour),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(self._seconds_to_reset() if is_relative else resets_at),
        }

    def _posted(
        self,
        request: Request,
        segments: Sequence[str],
        query: Mapping[str, str],
        caller: Caller,
    ) -> Reply:
        if segments not in (["contacts"], ["contacts", "add"]):
            raise _no_route()
        if not caller.is_admin:
            raise RefusedError(403, "Admin access required.")
        key = request.headers.get("idempotency-key")
        place = (caller.person, key or "")
        if key and self.traits.honours_idempotency_key:
            submitted = self._submitted(request)
            if self._inputs_of_keys.setdefault(place, submitted) != submitted:
                raise RefusedError(422, "The idempotency key was used with another input.")
            if place in self._answered_keys:
                self.creations.append(Arrival(request.headers, submitted))
                return self._answered_keys[place]
        honours_dry_run = self.traits.dry_run is not DryRun.IGNORED
        is_preview = honours_dry_run and query.get("dry_run") == "true"
        reply = self._created(request, is_preview=is_preview)
        if key and not is_preview and reply.status < 300:
            self._answered_keys[place] = reply
        return reply

    def _submitted(self, request: Request) -> Mapping[str, object]:
        try:
            body = json.loads(request.body)
        except ValueError:
            raise RefusedError(400, "The body is not JSON.") from None
        contact = body.get("contact") if isinstance(body, dict) else None
        if not isinstance(contact, dict):
            raise RefusedError(self.traits.status_of_bad_input, "Contact is missing or empty.")
        return contact

    def _created(self, request: Request, *, is_preview: bool) -> Reply:
        submitted = self._submitted(request)
        if not is_preview:
            self.creations.append(Arrival(request.headers, submitted))
        named = _advertiser_by_id(str(submitted.get("advertiser_id", "")))
        if named is None or named.hienergy_id is None:
            raise RefusedError(404, "HiEnergy advertiser not found.", field="advertiser_id")
        email = submitted.get("email")
        if not isinstance(email, str) or "@" not in email:
            raise RefusedError(self.traits.status_of_bad_input, "Email is invalid", field="email")
        fields = {name: submitted.get(name) for name in FIELDS}
        existing = self._existing(named.hienergy_id, email)
        refusal = None if existing is None else duplicate_reply(self.traits, existing)
        if refusal is not None:
            return refusal
        contact = self._new(named.hienergy_id, fields)
        contact.made_by = request.headers.get("idempotency-key")
        if is_preview:
            return self._preview(contact)
        if existing is not None and self.traits.duplicates is not Duplicates.CREATED_AGAIN:
            if self.traits.duplicates is Duplicates.MERGED:
                existing.fields.update(
                    {name: value for name, value in fields.items() if value is not None}
                )
                existing.updated_at = self.now()
            return created_reply(self.traits, existing, status=self.traits.status_of_repeat)
        self.contacts.append(contact)
        return created_reply(self.traits, contact, status=201)

    def _existing(self, advertiser_id: int, email: str) -> StoredContact | None:
        return next(
            (
                contact
                for contact in self.contacts
                if contact.advertiser_id == advertiser_id and _is_same(contact.email, email)
            ),
            None,
        )

    def _new(self, advertiser_id: int, fields: dict[str, object]) -> StoredContact:
        now = self.now()
        return StoredContact(
            id=len(self.contacts) + 1,
            advertiser_id=advertiser_id,
            fields=fields,
            created_at=now,
            updated_at=now,
            rating=1 if self.traits.rates_new_contacts else 0,
            lag=self.traits.list_lag,
        )

    def _preview(self, contact: StoredContact) -> Reply:
        row = contact_row(self.traits, contact)
        if self.traits.dry_run is DryRun.GATEWAY:
            row |= {"id": None}
            return one_reply(self.traits, "contacts", row, meta={"dry_run": True})
        attributes = {
            "advertiser_id": contact.advertiser_id,
            "dry_run": True,
            "message": "Dry run: no contact was created.",
        }
        row = {"type": "contact", "id": str(contact.advertiser_id), "attributes": attributes}
        return one_reply(self.traits, "contacts", row)

    def _read(self, method: str, segments: Sequence[str], query: Mapping[str, str]) -> Reply:
        traits = self.traits
        match method, *segments:
            case "GET", "contacts":
                return self._listed(self._matching(query), query)
            case "GET", "contacts", contact_id if traits.has_contact_operation:
                found = next((one for one in self.contacts if str(one.id) == contact_id), None)
                if found is None:
                    raise RefusedError(404, "Contact not found.")
                return one_reply(traits, "contacts", contact_row(traits, found))
            case "GET", "advertisers":
                shown = [record for record in ADVERTISERS.values() if _has(traits, record, query)]
                rows = [advertiser_row(traits, record) for record in shown]
                return list_reply(traits, "advertisers", rows, query)
            case "GET", "advertisers", "search_by_domain":
                return self._searched_by_domain(query)
            case "GET", "advertisers", text:
                return one_reply(
                    traits, "advertisers", advertiser_row(traits, _advertiser(text, ("slug",)))
                )
            case "GET", "advertisers", text, "contacts" if traits.has_advertiser_contacts:
                owner_id = self._owner_id(_advertiser(text, ("slug", "domain", "name")))
                return self._listed(
                    [
                        contact
                        for contact in self._sorted()
                        if contact.advertiser_id == owner_id
                        and (contact.rating or traits.lists_own_unrated)
                    ],
                    query,
                )
            case _:
                raise _no_route()

    def _searched_by_domain(self, query: Mapping[str, str]) -> Reply:
        domain = query.get("domain", "")
        domain = urlsplit(domain).hostname or domain
        found = [record for record in ADVERTISERS.values() if _is_same(record.domain, domain)]
        rows = [advertiser_row(self.traits, record) for record in found]
        match self.traits.domain_search:
            case DomainSearch.LIST:
                return list_reply(self.traits, "advertisers", rows, query)
            case DomainSearch.GROUPED:
                return json_reply(200, {"data": {"domain": domain, "advertisers": rows}})
            case DomainSearch.ONE if rows:
                return one_reply(self.traits, "advertisers", rows[0])
            case DomainSearch.ONE:
                raise RefusedError(404, "No advertiser has this domain.")
            case DomainSearch.ABSENT:
                raise _no_route()

    def _owner_id(self, record: Advertiser) -> int | None:
        """Return the advertiser whose contacts a list with this advertiser shows."""
        return record.hienergy_id if self.traits.finds_by_network_record else record.id

    def _sorted(self) -> list[StoredContact]:
        """Return all contacts by rating, then time, both falling."""
        contacts = self.contacts
        if self.traits.rows_without_email:
            moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
            contacts = [
                *contacts,
                StoredContact(
                    id=9001,
                    advertiser_id=1001,
                    fields={"name": "Front desk", "phone": "+1 555 0100"},
                    created_at=moment,
                    updated_at=moment,
                    rating=1,
                ),
            ]
        return sorted(contacts, key=lambda one: (one.rating, one.updated_at), reverse=True)

    def _matching(self, query: Mapping[str, str]) -> list[StoredContact]:
        matching = [contact for contact in self._sorted() if contact.rating]
        if self.traits.filters_work and (wanted := query.get("advertiser_id")):
            named = _advertiser_by_id(wanted) or _advertiser_by(("slug",), wanted)
            owner_id = None if named is None else self._owner_id(named)
            matching = [contact for contact in matching if contact.advertiser_id == owner_id]
        if self.traits.filters_work and (email := query.get("email")):
            matching = [contact for contact in matching if _is_same(contact.email, email)]
        for text in filter(None, map(query.get, ("q", "query", "search"))):
            matching = [one for one in matching if _contains(text, *one.fields.values())]
        if name := query.get("advertiser_name"):
            matching = [
                one
                for one in matching
                if _contains(name, (owner := ADVERTISERS[one.advertiser_id]).name, owner.title)
            ]
        for domain in filter(None, map(query.get, ("domain", "advertiser_domain"))):
            matching = [
                one for one in matching if _is_same(ADVERTISERS[one.advertiser_id].domain, domain)
            ]
        return matching

    def _listed(self, contacts: Sequence[StoredContact], query: Mapping[str, str]) -> Reply:
        """Return a list without the contacts that it does not show yet."""
        shown = [contact for contact in contacts if not contact.lag]
        for contact in self.contacts:
            contact.lag = max(0, contact.lag - 1)
        rows = [contact_row(self.traits, contact) for contact in shown]
        return list_reply(self.traits, "contacts", rows, query)


@asynccontextmanager
async def fake_hienergy(traits: Traits | None = None) -> AsyncIterator[HiEnergy]:
    """Run a fake HiEnergy on a free port."""
    hienergy = HiEnergy(traits or Traits())
    async with recorded_upstream(hienergy.answer) as hienergy.upstream:
        yield hienergy


def _no_route() -> RefusedError:
    return RefusedError(404, "The page you were looking for doesn't exist", style=ErrorBody.HTML)


def _advertiser_by_id(text: str) -> Advertiser | None:
    return ADVERTISERS.get(int(text)) if text.isdecimal() else None


def _advertiser_by(names: Sequence[str], text: str) -> Advertiser | None:
    """Return the advertiser with a text in one of its attributes, rather a HiEnergy record."""
    found = [
        record
        for record in ADVERTISERS.values()
        if any(_is_same(getattr(record, name), text) for name in names)
    ]
    return next((one for one in found if one.is_hienergy), found[0] if found else None)


def _advertiser(text: str, names: Sequence[str]) -> Advertiser:
    record = _advertiser_by_id(text) or _advertiser_by(names, text)
    if record is None:
        raise RefusedError(404, "Advertiser not found.")
    return record


def _has(traits: Traits, record: Advertiser, query: Mapping[str, str]) -> bool:
    """Return whether an advertiser passes all filters of a query."""
    url = query.get("url", "")
    domain = query.get("domain") or urlsplit(url).hostname
    return (
        (not domain or _is_same(record.domain, domain))
        and all(
            _contains(query.get(name, ""), record.name, record.title)
            for name in ("name", "q", "search")
        )
        and _is_same(network_of(traits, record), query.get("network") or network_of(traits, record))
        and _is_same(record.status, query.get("status") or record.status)
    )


def _is_same(value: str | None, wanted: str | None) -> bool:
    return (value or "").casefold() == (wanted or "").casefold()


def _contains(text: str, *values: object) -> bool:
    return any(
        isinstance(value, str) and text.strip().casefold() in value.casefold() for value in values
    )
