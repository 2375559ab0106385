"""Upstream's REST operations for one request: each is one call, and their number is limited.

Source: HiEnergy's published reference; paths are relative to `/api/v1`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, TypeVar
from urllib.parse import quote, unquote

from contact_gateway.access.principals import Credential, Identity, Role
from contact_gateway.access.quota import Quota
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.outcomes import Forbidden, InvalidInput, Previewed, ReadRefusal
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Page,
    PageRequest,
    SourceResponse,
)
from contact_gateway.contacts.text import domain_of
from contact_gateway.upstream.calls import (
    MAX_RESPONSE_BYTES,
    Call,
    Delivery,
    Response,
    UpstreamUnavailable,
    unexpected,
)
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.documents import (
    ADVERTISERS,
    CONTACTS,
    UnreadableError,
    advertiser_of,
    contact_of,
    page_of,
    resource_of,
)
from contact_gateway.upstream.responses import (
    ABSENT_OPERATION_STATUSES,
    CreationAnswer,
    creation_answer_of,
    dry_run_answer_of,
    is_missing_operation,
    log_refusal,
    quota_of,
    read_refusal_of,
)

T = TypeVar("T")

DEFAULT_MAX_CALLS: Final = 100

_LABEL: Final = "HiEnergy API key"
_CONTACTS: Final = "contacts"
_ADVERTISERS: Final = "advertisers"
# HiEnergy may not have them.
_OPTIONAL_OPERATIONS: Final = frozenset({"get_contact", "list_contacts_of_advertiser"})
_ENCODED_PATH: Final = re.compile(r"(?:[A-Za-z0-9/._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){1,2048}")
# Not empty, nor a dot segment (RFC 3986, section 3.3; some servers ignore what follows a semicolon
# in it), and with nothing that a server could take for a separator or decode once more.
_SEGMENT: Final = re.compile(r"(?!\.{1,2}(?:;|$))[^/\\%\x00-\x1f\x7f]+")
# No others: they are about the connection, or about HiEnergy's own pages and sessions.
_PASSED_HEADERS: Final = {
    "Content-Type": "Content-Type",
    "Content-Disposition": "Content-Disposition",
    "Retry-After": "Retry-After",
    "WWW-Authenticate": "WWW-Authenticate",
    "X-Request-Id": "X-Upstream-Request-Id",
}
# Upstream responds with these only after it has accepted the key as an admin's.
_AUTHORIZED_STATUSES: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


@dataclass(slots=True)
class UpstreamPrincipal:
    """The owner of a credential that upstream checks. Implements `Principal`.

    `reported_quota` and `is_refused` are what upstream reported during this request.
    """

    role: None = None
    quota_key: None = None
    reported_quota: Quota | None = None
    is_refused: bool | None = None


class CallObserver(Protocol):
    """Receives the calls of all requests, for metrics."""

    def called(self, operation: str, /) -> None:
        """Record a call of one of upstream's operations."""
        ...

    def rows_skipped(self, rows: int, /) -> None:
        """Record rows of a list that could not be read."""
        ...


class Operations:
    """Upstream's operations, by one caller's credential, for one request.

    Each raises `UpstreamUnavailable` if there is no usable response. A read beyond `max_calls` is
    refused. A creation is sent anyway: whoever starts one checks that enough calls are left.
    """

    def __init__(
        self,
        client: UpstreamClient,
        credential: Credential,
        *,
        max_calls: int = DEFAULT_MAX_CALLS,
        observer: CallObserver | None = None,
    ) -> None:
        self._client: Final = client
        self._max_calls: Final = max_calls
        self._observer: Final = observer
        self._calls = 0
        self.credential: Final = credential
        self.principal = UpstreamPrincipal()

    def clock_ahead(self) -> timedelta | None:
        """Return how far upstream's clock is ahead of ours, at least; None if unknown."""
        return self._client.clock_ahead()

    async def send_creation(
        self, contact: NewContact, idempotency_key: str | None
    ) -> CreationAnswer:
        """Create a contact (`POST /contacts`). HiEnergy may ignore the idempotency key."""
        response = await self._post_contact(contact.given(), idempotency_key=idempotency_key)
        return creation_answer_of(response, contact)

    async def send_dry_run(self, contact: NewContact) -> CreationAnswer | Previewed:
        """Ask for a dry run of a creation (`POST /contacts?dry_run=true`)."""
        response = await self._post_contact(contact.given(), dry_run=True)
        return dry_run_answer_of(response, contact)

    async def identify(self) -> Identity | ReadRefusal:
        """Return the role of the key, by a dry run with an empty contact.

        Upstream has no operation for it. Only an admin's key gets further, and an empty contact
        cannot be created, dry run or not.
        """
        seconds = self._client.timeout_seconds
        response = await self._post_contact({}, dry_run=True, timeout_seconds=seconds)
        # HiEnergy may answer a dry run before the validation.
        is_document = isinstance(response.body, Mapping) and "error" not in response.body
        is_previewed = response.is_success and is_document
        is_validated = response.status in _AUTHORIZED_STATUSES
        if is_previewed or (is_validated and not is_missing_operation(response)):
            return Identity(_LABEL, Role.ADMIN)
        refusal = read_refusal_of(response)
        return Identity(_LABEL, Role.MEMBER) if isinstance(refusal, Forbidden) else refusal

    async def contact(self, contact_id: int) -> Contact | ReadRefusal | None:
        """Read a contact (`GET /contacts/{id}`); None if it or the operation does not exist."""
        path = f"{_CONTACTS}/{contact_id}"
        return await self._read("get_contact", path, lambda body: contact_of(resource_of(body)))

    async def advertiser(self, id_or_slug: int | str) -> Advertiser | ReadRefusal | None:
        """Read an advertiser (`GET /advertisers/{id}`, which also takes a slug)."""
        segment = quote(str(id_or_slug), safe="")
        if segment in {"", ".", ".."}:
            return None
        return await self._read(
            "get_advertiser",
            f"{_ADVERTISERS}/{segment}",
            lambda body: advertiser_of(resource_of(body, ADVERTISERS)),
        )

    async def contacts(
        self, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Read a page of contacts (`GET /contacts`)."""
        owner_id = wanted.advertiser_id
        found = await self._read_contacts("list_contacts", _CONTACTS, wanted, page, owner_id)
        if found is not None:
            return found
        if owner_id is None:
            # Not a statement about an advertiser. A route that does not exist checks no credential.
            raise UpstreamUnavailable(
                "upstream lists no contacts", Delivery.REFUSED, status=HTTPStatus.NOT_FOUND
            )
        # The advertiser in the filter does not exist, so neither do its contacts.
        return Page((), page, has_more=False)

    async def contacts_of_advertiser(
        self, advertiser_id: int, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal | None:
        """Read a page of an advertiser's contacts (`GET /advertisers/{id}/contacts`).

        Return None if the advertiser or the operation does not exist. No filter is documented for
        it, so upstream may ignore `wanted`.
        """
        operation = "list_contacts_of_advertiser"
        path = f"{_ADVERTISERS}/{advertiser_id}/{_CONTACTS}"
        return await self._read_contacts(operation, path, wanted, page, advertiser_id)

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Read a page of advertisers (`GET /advertisers`).

        For `domain_or_url`, call `GET /advertisers/search_by_domain`, if HiEnergy has it.
        """
        operation, path = "list_advertisers", _ADVERTISERS
        # As `q` and `name` too, which most clients send.
        text = wanted.q or wanted.query
        filters = {**wanted._asdict(), "q": text, "name": wanted.name or text}
        filters.pop("domain_or_url")
        domain = wanted.domain_or_url
        if domain is not None:
            operation, path = "search_by_domain", f"{_ADVERTISERS}/search_by_domain"
            filters["domain"] = domain
        try:
            found = await self._read_page(
                operation,
                path,
                filters,
                page,
                lambda body: page_of(body, ADVERTISERS, page, advertiser_of),
            )
        except UpstreamUnavailable as error:
            if domain is None or error.status != HTTPStatus.NOT_FOUND:
                raise
            return await self.advertisers(AdvertiserFilter(domain=domain_of(domain)), page)
        return Page((), page, has_more=False) if found is None else found

    async def pass_through(self, path: str, query: str) -> SourceResponse | InvalidInput | None:
        """Send any other read, and return its response; None if its path leaves the base URL."""
        is_below_base = _ENCODED_PATH.fullmatch(path) and all(
            _SEGMENT.fullmatch(unquote(segment)) for segment in path.split("/")
        )
        if not is_below_base:
            return None
        target = f"{path}?{query}" if query else path
        call = Call("GET", target, self.credential, is_passed_through=True)
        response = await self._send("pass_through", call)
        if not self.principal.is_refused:
            # HiEnergy may have public operations, so an answer does not prove the credential valid.
            self.principal.is_refused = None
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
            raise unexpected(response)
        if response.content is None:
            message = (
                f"HiEnergy's answer is larger than {MAX_RESPONSE_BYTES // 2**20} MiB. "
                "Ask for fewer records."
            )
            problem = Problem(("request",), ProblemCode.INVALID_ARGUMENTS, message)
            return InvalidInput((problem,), message)
        if not response.is_success:
            log_refusal(response)
        headers = {
            # The client decodes headers as UTF-8, and the server encodes them as Latin-1.
            passed: response.headers[name].encode(errors="surrogateescape").decode("latin-1")
            for name, passed in _PASSED_HEADERS.items()
            if name in response.headers
        }
        return SourceResponse(response.status, response.content, headers)

    async def _post_contact(
        self,
        contact: Mapping[str, object],
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Response:
        call = Call(
            "POST",
            _CONTACTS,
            self.credential,
            query={"dry_run": "true"} if dry_run else None,
            body={"contact": contact},
            idempotency_key=idempotency_key,
            timeout_seconds=timeout_seconds or self._client.create_timeout_seconds,
        )
        return await self._send("create_contact", call)

    async def _read_contacts(
        self,
        operation: str,
        path: str,
        wanted: ContactFilter,
        page: PageRequest,
        owner_id: int | None,
    ) -> Page[Contact] | ReadRefusal | None:
        """Read a page of contacts, owned by `owner_id` if they show no owner."""
        filters: dict[str, object] = wanted._asdict()
        slug = filters.pop("advertiser_slug")
        filters["advertiser_id"] = wanted.advertiser_id or slug
        parse = partial(contact_of, advertiser_id=owner_id)
        return await self._read_page(
            operation, path, filters, page, lambda body: page_of(body, CONTACTS, page, parse)
        )

    async def _read_page(
        self,
        operation: str,
        path: str,
        filters: Mapping[str, object],
        page: PageRequest,
        read: Callable[[object], Page[T]],
    ) -> Page[T] | ReadRefusal | None:
        query = {name: str(value) for name, value in filters.items() if value is not None}
        query |= {"page": str(page.number), "per_page": str(page.size)}
        found = await self._read(operation, path, read, query)
        if isinstance(found, Page) and found.skipped and self._observer is not None:
            self._observer.rows_skipped(found.skipped)
        return found

    async def _read(
        self,
        operation: str,
        path: str,
        read: Callable[[object], T],
        query: Mapping[str, str] | None = None,
    ) -> T | ReadRefusal | None:
        """Return what `read` finds in the response; None if the record does not exist."""
        if self._calls >= self._max_calls:
            return self._too_many_calls()
        response = await self._send(operation, Call("GET", path, self.credential, query))
        if operation in _OPTIONAL_OPERATIONS:
            is_missing = response.status in ABSENT_OPERATION_STATUSES
        else:
            is_404 = response.status == HTTPStatus.NOT_FOUND
            is_missing = is_404 and not is_missing_operation(response)
        if is_missing:
            return None
        if response.status != HTTPStatus.OK:
            return read_refusal_of(response)
        try:
            return read(response.body)
        except UnreadableError as error:
            reason = f"upstream's response {response.status} is unreadable: {error}"
            raise UpstreamUnavailable.because_of(response, reason, Delivery.UNKNOWN) from None

    def _too_many_calls(self) -> InvalidInput:
        message = (
            f"The request needs more than {self._max_calls} calls to HiEnergy. "
            "Ask for fewer records."
        )
        problem = Problem(("request",), ProblemCode.TOO_MANY_CALLS, message)
        return InvalidInput((problem,), message)

    async def _send(self, operation: str, call: Call) -> Response:
        """Send a call, and count it.

        Update the principal from the response: its quota, and whether upstream refused the key.
        """
        self._calls += 1
        if self._observer is not None:
            self._observer.called(operation)
        response = await self._client.send(call)
        quota = quota_of(response)
        if quota is not None:
            self.principal.reported_quota = quota
        self.principal.is_refused = response.status == HTTPStatus.UNAUTHORIZED
        return response
