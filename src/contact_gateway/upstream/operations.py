"""The operations of upstream's REST API, each a call and what its answer becomes.

Source: HiEnergy's published reference; paths are below `/api/v1`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote

from contact_gateway.access.principals import ForwardedPrincipal, Identity, Role
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.outcomes import CreateContactOutcome, Forbidden, ReadRefusal
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, Page, PageRequest
from contact_gateway.upstream.answers import (
    not_understood,
    outcome_of,
    read_refusal_of,
    window_of,
)
from contact_gateway.upstream.client import Answer, Call, UpstreamClient
from contact_gateway.upstream.documents import (
    NotUnderstoodError,
    advertiser_of,
    contact_of,
    page_of,
    resource_of,
)

T = TypeVar("T")

_LABEL: Final = "HiEnergy API key"
_CONTACTS: Final = "contacts"
_ADVERTISERS: Final = "advertisers"
# Names of a path that lead elsewhere than to a record.
_NO_NAMES: Final = frozenset({"", ".", ".."})
_DRY_RUN: Final = {"dry_run": "true"}
_ADMITTED: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


class Operations:
    """Upstream's operations. Each raises `UpstreamUnavailable` where there is no usable answer."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client: Final = client

    @property
    def timeout_seconds(self) -> float:
        """How long one operation may take."""
        return self._client.timeout_seconds

    def clock_ahead(self) -> timedelta | None:
        """Return by how much upstream's clock is ahead of ours at least; None if it is not told."""
        return self._client.clock_ahead()

    async def create_contact(
        self, principal: ForwardedPrincipal, contact: NewContact, *, dry_run: bool
    ) -> CreateContactOutcome:
        """Create a contact (`POST /contacts`)."""
        given = contact.given()
        answer = await self._create(principal, given, dry_run=dry_run)
        return outcome_of(answer, dry_run=dry_run)

    async def identify(self, principal: ForwardedPrincipal) -> Identity | ReadRefusal:
        """Find out whether a key is an admin's: one gets past that to what an empty contact lacks.

        Upstream has no operation that tells it. An empty contact cannot be created, dry or not.
        """
        answer = await self._create(principal, {}, dry_run=True)
        if answer.status in _ADMITTED:
            return Identity(_LABEL, Role.ADMIN)
        refusal = read_refusal_of(answer)
        return Identity(_LABEL, Role.MEMBER) if isinstance(refusal, Forbidden) else refusal

    async def contact(
        self, principal: ForwardedPrincipal, contact_id: int
    ) -> Contact | ReadRefusal | None:
        """Read a contact (`GET /contacts/{id}`)."""
        return await self._record(principal, f"{_CONTACTS}/{contact_id}", contact_of)

    async def advertiser(
        self, principal: ForwardedPrincipal, id_or_slug: int | str
    ) -> Advertiser | ReadRefusal | None:
        """Read an advertiser (`GET /advertisers/{id}`, which takes a slug as well)."""
        name = quote(str(id_or_slug), safe="")
        if name in _NO_NAMES:
            return None
        return await self._record(principal, f"{_ADVERTISERS}/{name}", advertiser_of)

    async def contacts(
        self, principal: ForwardedPrincipal, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Read a page of contacts (`GET /contacts`)."""
        return await self._page(principal, _CONTACTS, asdict(wanted), page, contact_of)

    async def advertisers(
        self, principal: ForwardedPrincipal, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Read a page of advertisers (`GET /advertisers`)."""
        return await self._page(principal, _ADVERTISERS, asdict(wanted), page, advertiser_of)

    async def _create(
        self, principal: ForwardedPrincipal, contact: Mapping[str, object], *, dry_run: bool
    ) -> Answer:
        answer = await self._client.create(
            Call(
                "POST",
                _CONTACTS,
                principal.credential,
                query=_DRY_RUN if dry_run else None,
                body={"contact": contact},
            )
        )
        return _reporting(principal, answer)

    async def _read(
        self, principal: ForwardedPrincipal, path: str, query: dict[str, str] | None = None
    ) -> Answer:
        answer = await self._client.read(Call("GET", path, principal.credential, query))
        return _reporting(principal, answer)

    async def _record(
        self, principal: ForwardedPrincipal, path: str, read: Callable[[object], T]
    ) -> T | ReadRefusal | None:
        answer = await self._read(principal, path)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return _understood(answer, lambda body: read(resource_of(body)))

    async def _page(
        self,
        principal: ForwardedPrincipal,
        path: str,
        wanted: dict[str, object],
        page: PageRequest,
        read: Callable[[object], T],
    ) -> Page[T] | ReadRefusal:
        query = {name: str(value) for name, value in wanted.items() if value is not None}
        query |= {"page": str(page.number), "per_page": str(page.size)}
        answer = await self._read(principal, path, query)
        if answer.status == HTTPStatus.NOT_FOUND:
            # What is asked about is not there, and so nothing of it.
            return Page((), page, has_more=False)
        return _understood(answer, lambda body: page_of(body, page, read))


def _understood(answer: Answer, read: Callable[[object], T]) -> T | ReadRefusal:
    if answer.status != HTTPStatus.OK:
        return read_refusal_of(answer)
    try:
        return read(answer.body)
    except NotUnderstoodError as error:
        not_understood(answer, error)


def _reporting(principal: ForwardedPrincipal, answer: Answer) -> Answer:
    """Keep what upstream says of the caller: their budget, and whether it lets their key in."""
    window = window_of(answer)
    if window is not None:
        principal.reported.window = window
    principal.reported.is_refused = answer.status == HTTPStatus.UNAUTHORIZED
    return answer
