"""Upstream's REST operations for one caller: each is one call.

Source: HiEnergy's published reference; paths are relative to `/api/v1`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote

from contact_gateway.access.principals import Credential, Identity, Role
from contact_gateway.access.quota import Quota
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.outcomes import CreateContactOutcome, Forbidden, ReadRefusal
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, Page, PageRequest
from contact_gateway.upstream.client import Call, Response, UpstreamClient
from contact_gateway.upstream.documents import (
    UnreadableError,
    advertiser_of,
    contact_of,
    page_of,
    resource_of,
)
from contact_gateway.upstream.responses import (
    is_missing_operation,
    is_missing_record,
    outcome_of,
    quota_of,
    read_refusal_of,
    unreadable,
)

T = TypeVar("T")

_LABEL: Final = "HiEnergy API key"
_CONTACTS: Final = "contacts"
_ADVERTISERS: Final = "advertisers"
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


class Operations:
    """Upstream's operations, by one caller's credential.

    Each raises `UpstreamUnavailable` if there is no usable response.
    """

    def __init__(self, client: UpstreamClient, credential: Credential) -> None:
        self._client: Final = client
        self.credential: Final = credential
        self.principal: Final = UpstreamPrincipal()

    @property
    def timeout_seconds(self) -> float:
        """How long one read may take."""
        return self._client.timeout_seconds

    def clock_ahead(self) -> timedelta | None:
        """Return how far upstream's clock is ahead of ours, at least; None if unknown."""
        return self._client.clock_ahead()

    async def send_creation(self, contact: NewContact, *, dry_run: bool) -> CreateContactOutcome:
        """Create a contact (`POST /contacts`)."""
        response = await self._post_contact(
            contact.given(),
            dry_run=dry_run,
            timeout_seconds=self._client.create_timeout_seconds,
        )
        return outcome_of(response, dry_run=dry_run)

    async def identify(self) -> Identity | ReadRefusal:
        """Return the role of the key, by a dry run with an empty contact.

        Upstream has no operation for it. Only an admin's key reaches the validation, and an empty
        contact cannot be created, dry run or not.
        """
        response = await self._post_contact({}, dry_run=True)
        if response.status in _AUTHORIZED_STATUSES and not is_missing_operation(response):
            return Identity(_LABEL, Role.ADMIN)
        refusal = read_refusal_of(response)
        return Identity(_LABEL, Role.MEMBER) if isinstance(refusal, Forbidden) else refusal

    async def contact(self, contact_id: int) -> Contact | ReadRefusal | None:
        """Read a contact (`GET /contacts/{id}`)."""
        return await self._read_record(f"{_CONTACTS}/{contact_id}", contact_of)

    async def advertiser(self, id_or_slug: int | str) -> Advertiser | ReadRefusal | None:
        """Read an advertiser (`GET /advertisers/{id}`, which also takes a slug)."""
        segment = quote(str(id_or_slug), safe="")
        if segment in {"", ".", ".."}:
            return None
        return await self._read_record(f"{_ADVERTISERS}/{segment}", advertiser_of)

    async def contacts(
        self, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | ReadRefusal:
        """Read a page of contacts (`GET /contacts`)."""
        return await self._read_page(_CONTACTS, wanted._asdict(), page, contact_of)

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        """Read a page of advertisers (`GET /advertisers`)."""
        return await self._read_page(_ADVERTISERS, wanted._asdict(), page, advertiser_of)

    async def _post_contact(
        self,
        contact: Mapping[str, object],
        *,
        dry_run: bool,
        timeout_seconds: float | None = None,
    ) -> Response:
        call = Call(
            "POST",
            _CONTACTS,
            self.credential,
            query={"dry_run": "true"} if dry_run else None,
            body={"contact": contact},
            timeout_seconds=timeout_seconds,
        )
        return self._observed(await self._client.send(call))

    async def _read_record(self, path: str, parse: Callable[[object], T]) -> T | ReadRefusal | None:
        response = await self._get(path)
        if is_missing_record(response):
            return None
        return _parsed(response, lambda body: parse(resource_of(body)))

    async def _read_page(
        self,
        path: str,
        wanted: Mapping[str, object],
        page: PageRequest,
        parse: Callable[[object], T],
    ) -> Page[T] | ReadRefusal:
        query = {name: str(value) for name, value in wanted.items() if value is not None}
        query |= {"page": str(page.number), "per_page": str(page.size)}
        response = await self._get(path, query)
        if is_missing_record(response):
            # The advertiser in the filter does not exist, so neither do its records.
            return Page((), page, has_more=False)
        return _parsed(response, lambda body: page_of(body, page, parse))

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> Response:
        return self._observed(await self._client.send(Call("GET", path, self.credential, query)))

    def _observed(self, response: Response) -> Response:
        """Update the principal from a response: its quota, and whether upstream refused the key."""
        quota = quota_of(response)
        if quota is not None:
            self.principal.reported_quota = quota
        self.principal.is_refused = response.status == HTTPStatus.UNAUTHORIZED
        return response


def _parsed(response: Response, parse: Callable[[object], T]) -> T | ReadRefusal:
    if response.status != HTTPStatus.OK:
        return read_refusal_of(response)
    try:
        return parse(response.body)
    except UnreadableError as error:
        raise unreadable(response, error) from None
