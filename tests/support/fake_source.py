"""A source with fixed records, and the context of a GraphQL request to it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import (
    AnyPrincipal,
    Credential,
    Identity,
    KeyRefusal,
    Principal,
    Role,
)
from contact_gateway.access.rate_limits import Unlimited
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import DETAIL_NAMES, Contact
from contact_gateway.contacts.outcomes import CreateContactOutcome, Created, ReadRefusal
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.faces.graphql.document_source import DocumentSource
from contact_gateway.faces.graphql.types import GraphQLContext
from contact_gateway.faces.request_context import RequestContext
from support.gateway import CATALOGUE

_NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
_ADVERTISERS: Final = {record.id: record for record in CATALOGUE}
_TAKEN: Final = Contact(
    id=1,
    advertiser_id=1001,
    advertiser_name="Meridian",
    email="maya@example.com",
    created_at=_NOW,
    updated_at=_NOW,
)


class FakeSource:
    """A source that gives equal requests equal answers, for comparing two executors."""

    async def authenticate(self, credential: Credential) -> AnyPrincipal | KeyRefusal:
        roles = {"admin": Role.ADMIN, "member": Role.MEMBER}
        role = roles.get(credential.secret)
        return KeyRefusal.UNKNOWN if role is None else Principal(1, credential.secret, role)

    async def identify(self, principal: AnyPrincipal) -> Identity:
        assert isinstance(principal, Principal)
        return Identity(principal.label, principal.role)

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
        details = {name: getattr(decision.contact, name) for name in DETAIL_NAMES}
        details |= {"advertiser_id": decision.advertiser.id}
        name = decision.advertiser.title
        stored = Contact(**details, id=2, advertiser_name=name, created_at=_NOW, updated_at=_NOW)
        return Created(stored)

    async def contact(self, _: AnyPrincipal, contact_id: int) -> Contact | None:
        return _TAKEN if contact_id == _TAKEN.id else None

    async def contacts(
        self, _: AnyPrincipal, _wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact]:
        return Page((_TAKEN,), page, has_more=False)

    async def advertisers(
        self, _: AnyPrincipal, _wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser]:
        return Page(tuple(_ADVERTISERS.values())[: page.size], page, has_more=True)

    async def advertisers_by_id(
        self, _: AnyPrincipal, ids: Collection[int]
    ) -> Mapping[int, Advertiser]:
        return {an_id: _ADVERTISERS[an_id] for an_id in ids if an_id in _ADVERTISERS}

    async def advertiser_by_slug(self, _: AnyPrincipal, slug: str) -> Advertiser | None:
        return next((record for record in _ADVERTISERS.values() if record.slug == slug), None)

    async def equivalents(
        self, _: AnyPrincipal, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        return {
            an_id: tuple(
                record
                for record in _ADVERTISERS.values()
                if record.hienergy_id == an_id and record.id != an_id
            )
            for an_id in hienergy_ids
        }


def context(key: str | None, idempotency_header: str | None = None) -> GraphQLContext:
    """Return the context of a request with a key, which is a role's name or none that is known."""
    source = FakeSource()
    credential = None if key is None else Credential(key)
    caller = Caller(credential, source.authenticate, Unlimited())
    request = RequestContext("a-request", caller)
    return GraphQLContext(request, DocumentSource(source), None, idempotency_header)
