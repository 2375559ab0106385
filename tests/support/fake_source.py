"""Requests to the gateway's own schema, by a caller that may or may not create contacts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import ApiKeyOwner, Credential, Identity, KeyRefusal, Role
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    CreateContactOutcome,
    Created,
    ReadRefusal,
)
from contact_gateway.contacts.source import (
    OWN_FILTERS,
    AdvertiserFilter,
    ContactCaller,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.faces.graphql.document_access import DocumentAccess
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.faces.request_context import RequestContext
from support.contacts import stored, submitted
from support.gateway import CATALOGUE

LIMITS: Final = DocumentLimits(
    tokens=1000, depth=10, aliases=15, directives=50, mutations=10, records=2_500
)
_NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
_ADVERTISERS: Final = {record.id: record for record in CATALOGUE}
_TAKEN: Final = stored(
    submitted(advertiser_id=1001, email="maya@example.com"), _NOW, advertiser_name="Meridian"
)


class FakeSource:
    """A source, and the access to it, that returns the same each time, to compare two executors."""

    filters: Final = OWN_FILTERS

    def __init__(self) -> None:
        self.principal = ApiKeyOwner(1, "admin", Role.ADMIN, bytes(32))

    async def authenticate(self, credential: Credential) -> "FakeSource | KeyRefusal":
        roles = {"admin": Role.ADMIN, "member": Role.MEMBER}
        role = roles.get(credential.secret)
        if role is None:
            return KeyRefusal.UNKNOWN
        self.principal = ApiKeyOwner(1, credential.secret, role, bytes(32))
        return self

    async def identify(self) -> Identity:
        return Identity(self.principal.label, self.principal.role)

    async def create_contact(self, creation: Creation) -> CreateContactOutcome:
        contact = creation.contact
        if contact.phone == "x":
            raise SourceUnavailable("tried")
        named = _ADVERTISERS.get(contact.advertiser_id)
        owner = None if named is None else _ADVERTISERS.get(named.hienergy_id or 0)
        existing = _TAKEN if contact.email == _TAKEN.email else None
        facts = policy.Facts(earlier=None, hienergy=owner, existing=existing)
        decision = policy.decide(contact, facts, dry_run=creation.dry_run)
        if not isinstance(decision, policy.Insert):
            return decision
        details = decision.contact._replace(advertiser_id=decision.advertiser.id)
        return Created(stored(details, _NOW, id_=2, advertiser_name=decision.advertiser.title))

    async def create_contacts(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        return [await self.create_contact(creation) for creation in creations]

    async def contact(self, contact_id: int) -> Contact | None:
        return _TAKEN if contact_id == _TAKEN.id else None

    async def contacts(self, _wanted: ContactFilter, page: PageRequest) -> Page[Contact]:
        return Page((_TAKEN,), page, has_more=False)

    async def contacts_of_brand(
        self, _advertiser_id: int, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact] | None:
        return await self.contacts(wanted, page)

    async def advertisers(
        self, _wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        return Page(tuple(_ADVERTISERS.values())[: page.size], page, has_more=True)

    async def advertisers_by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        return {an_id: _ADVERTISERS[an_id] for an_id in ids if an_id in _ADVERTISERS}

    async def advertiser_by_slug(self, slug: str) -> Advertiser | ReadRefusal | None:
        return next((record for record in _ADVERTISERS.values() if record.slug == slug), None)

    async def equivalents(
        self, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        return {
            an_id: tuple(
                record
                for record in _ADVERTISERS.values()
                if record.hienergy_id == an_id and record.id != an_id
            )
            for an_id in hienergy_ids
        }


def context(key: str | None, idempotency_header: str | None = None) -> RequestContext:
    """Return the context of a request with a key, which is a role's name or none that is known."""
    source = FakeSource()
    credential = None if key is None else Credential.of(key)
    caller: ContactCaller = Caller(credential, source.authenticate)
    caller.decorate(partial(DocumentAccess, limits=LIMITS))
    headers = {} if idempotency_header is None else {"idempotency-key": idempotency_header}
    return RequestContext("a-request", caller, headers)
