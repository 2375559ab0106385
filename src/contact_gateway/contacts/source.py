"""What the domain asks of a source of truth: where advertisers, contacts and keys are kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from contact_gateway.access.principals import AnyPrincipal, Credential, Identity, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import CreateContactOutcome, ReadRefusal

T = TypeVar("T")


class SourceUnavailable(Exception):  # noqa: N818 - it names a state, not a mistake
    """The source does not answer, or too many wait for it. The caller may try again later.

    `reason` is for the operator: it may be logged, and holds nothing of what a caller sent.
    """

    def __init__(self, reason: str, retry_after_seconds: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Creation:
    """One valid submission by who may make it, with all that is needed to carry it out."""

    principal: AnyPrincipal
    contact: NewContact
    idempotency_key: str | None
    dry_run: bool
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list is wanted: `number` counts from 1, `size` is 1 to 100."""

    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: Sequence[T]
    request: PageRequest
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactFilter:
    """Which contacts are wanted. All that is given must hold; texts match anywhere, in any case.

    `advertiser_id` is any of a brand's records, `email` and `domain` match whole.
    """

    q: str | None = None
    email: str | None = None
    advertiser_id: int | None = None
    advertiser_name: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertiserFilter:
    """Which advertisers are wanted. `q` matches names, slug and domain anywhere.

    `hienergy_id` wants the records of one brand, its HiEnergy record among them.
    """

    q: str | None = None
    domain: str | None = None
    hienergy_id: int | None = None


class Source(Protocol):
    """A source of truth. Every method may raise `SourceUnavailable`.

    A source that judges credentials itself refuses with the rules' own refusals; one whose keys
    the gateway keeps has been asked for `authenticate` before.
    """

    async def authenticate(self, credential: Credential, /) -> AnyPrincipal | KeyRefusal:
        """Return whom a credential speaks for."""
        ...

    async def identify(self, principal: AnyPrincipal, /) -> Identity | ReadRefusal:
        """Return what the caller's key says of its owner."""
        ...

    async def create_contact(self, creation: Creation, /) -> CreateContactOutcome:
        """Carry out rules 5 to 7, as `policy` has them, for one submission.

        Returns only when a created contact is durable. Raises where that is not known.
        """
        ...

    async def contact(
        self, principal: AnyPrincipal, contact_id: int, /
    ) -> Contact | ReadRefusal | None:
        """Return one contact."""
        ...

    async def contacts(
        self, principal: AnyPrincipal, wanted: ContactFilter, page: PageRequest, /
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts, newest first."""
        ...

    async def advertisers(
        self, principal: AnyPrincipal, wanted: AdvertiserFilter, page: PageRequest, /
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers, newest first."""
        ...

    async def advertisers_by_id(
        self, principal: AnyPrincipal, ids: Collection[int], /
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return those of the advertisers that there are."""
        ...

    async def advertiser_by_slug(
        self, principal: AnyPrincipal, slug: str, /
    ) -> Advertiser | ReadRefusal | None:
        """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
        ...

    async def equivalents(
        self, principal: AnyPrincipal, hienergy_ids: Collection[int], /
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        """Return the network records of each of the brands, by id of their HiEnergy record."""
        ...
