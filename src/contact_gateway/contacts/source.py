"""What the domain asks of a source of truth: where advertisers, contacts and keys live."""

from collections.abc import Collection, Mapping, Sequence
from typing import (
    Final,
    Generic,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Authenticated, Credential, Identity, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.fields import Id, SearchedEmail, Text
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import BatchedOutcome, CreateContactOutcome, ReadRefusal
from contact_gateway.contacts.policy import OnConflict

T = TypeVar("T")


class SourceUnavailable(Exception):  # noqa: N818 - it names a state, not a mistake
    """The source does not respond, or its queue is full. The caller may retry later.

    `reason` is for the operator: it may be logged, and contains nothing that a caller sent.
    `details` are for the caller.
    """

    def __init__(self, reason: str, retry_after_seconds: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details: Mapping[str, object] = {}
        self.retry_after_seconds = retry_after_seconds


class SearchTimedOut(SourceUnavailable):
    """A search took too long, and was stopped. The caller may narrow it."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"a search was stopped after {timeout_seconds:g} s", 5)
        self.timeout_seconds: Final = timeout_seconds


class Creation(NamedTuple):
    """One valid submission, with everything that is needed to carry it out."""

    contact: NewContact
    idempotency_key: str | None
    dry_run: bool
    origin: Origin | None = None
    on_conflict: OnConflict = OnConflict.REFUSE


class PageRequest(NamedTuple):
    """The page of a list: `number` starts at 1, `size` is 1 to 100 in a request."""

    number: int
    size: int


class Page(NamedTuple, Generic[T]):
    """One page of a list.

    Attributes:
        items: the records.
        request: the page's number and size.
        has_more: whether there is a next page.
        skipped: how many rows could not be read and are left out.
        is_guess: whether `has_more` follows from the requested size, which may have been clamped.
    """

    items: Sequence[T]
    request: PageRequest
    has_more: bool
    skipped: int = 0
    is_guess: bool = False


class ContactFilter(NamedTuple):
    """Filters for contacts; all that are set must match.

    `q` and `advertiser_name` match any part, `email` and `domain` the whole value, in any case.
    `advertiser_id` is the id of any of a brand's records, `advertiser_slug` the slug of one.
    `query` and `search` are other names of `q`, and `advertiser_domain` of `domain`. `name` and
    `phone` are HiEnergy's alone. In front of HiEnergy, all match as it says.
    """

    q: Text = None
    email: SearchedEmail = None
    advertiser_id: Id | None = None
    advertiser_name: Text = None
    domain: Text = None
    advertiser_slug: str | None = None
    advertiser_domain: Text = None
    query: Text = None
    search: Text = None
    name: Text = None
    phone: Text = None


class AdvertiserFilter(NamedTuple):
    """Filters for advertisers; all that are set must match.

    `q`, `query` and `search` match any part of the names, slug and domain, `name` of the names.
    `domain` and `network` match the whole value, in any case. `domain_or_url` matches the domain of
    a URL too. `hienergy_id` matches all records of one brand, including its HiEnergy record. Those
    from `url` on are HiEnergy's alone. In front of HiEnergy, all match as it says.
    """

    q: Text = None
    domain: Text = None
    hienergy_id: Id | None = None
    name: Text = None
    query: Text = None
    search: Text = None
    network: Text = None
    domain_or_url: Text = None
    url: Text = None
    country: Text = None
    vertical: Text = None
    status: Text = None


class KnownFilters(NamedTuple):
    """The filters that a source knows, by their names in queries. All others are refused."""

    contacts: frozenset[str]
    advertisers: frozenset[str]


# `advertiser_slug` and `domain_or_url` are set from parameters of other names.
_OF_CONTACTS: Final = frozenset(ContactFilter._fields) - {"advertiser_slug"}
_OF_ADVERTISERS: Final = frozenset(AdvertiserFilter._fields) - {"domain_or_url"}

OWN_FILTERS: Final = KnownFilters(
    contacts=_OF_CONTACTS - {"name", "phone"},
    advertisers=_OF_ADVERTISERS - {"url", "country", "vertical", "status"},
)
"""The filters of the gateway's own store."""

HIENERGY_FILTERS: Final = KnownFilters(_OF_CONTACTS, _OF_ADVERTISERS - {"hienergy_id"})
"""HiEnergy's filters. Source: its published reference and its official clients."""


class SourceResponse(NamedTuple):
    """The source's response to a read that the gateway does not have, to be returned unchanged.

    `headers` are those that may be passed on.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


@runtime_checkable
class PassesThrough(Protocol):
    """An access to a source with more operations than the gateway has."""

    async def pass_through(self, path: str, query: str, /) -> SourceResponse | ReadRefusal | None:
        """Return the response to a read; None if the path cannot be one of the source's.

        Path and query are percent-encoded, and the path is relative to the source's base URL.
        """
        ...


class Advertisers(Protocol):
    """The reads of advertisers that finding one of them by a text needs."""

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest, /
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers, in the order of the source."""
        ...

    async def advertisers_by_id(
        self, ids: Collection[int], /
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return the advertisers that exist, by id."""
        ...

    async def advertiser_by_slug(self, slug: str, /) -> Advertiser | ReadRefusal | None:
        """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
        ...


class Access(Authenticated, Advertisers, Protocol):
    """A source of truth as one authenticated caller may use it: its operations.

    Every method may raise `SourceUnavailable`. A source that judges credentials itself returns the
    rules' own refusals.
    """

    @property
    def filters(self) -> KnownFilters:
        """The filters of its lists."""
        ...

    async def identify(self) -> Identity | ReadRefusal:
        """Return the label and the role of the credential."""
        ...

    async def create_contact(self, creation: Creation, /) -> CreateContactOutcome:
        """Apply rules 5 to 7, as `policy` has them, to one submission.

        Return only once a created contact is durable. Raise if that is unknown.
        """
        ...

    async def create_contacts(self, creations: Sequence[Creation], /) -> Sequence[BatchedOutcome]:
        """Carry out submissions as `create_contact` does, in order; return the outcome of each.

        A submission that the source does not respond to is `Unavailable`.
        """
        ...

    async def contact(self, contact_id: int, /) -> Contact | ReadRefusal | None:
        """Return one contact, or None."""
        ...

    async def contacts(
        self, wanted: ContactFilter, page: PageRequest, /
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts, in the order of the source."""
        ...

    async def contacts_of_brand(
        self, advertiser_id: int, wanted: ContactFilter, page: PageRequest, /
    ) -> Page[Contact] | ReadRefusal | None:
        """Return a page of the contacts of an advertiser's brand; None if it does not exist.

        `wanted` names no advertiser.
        """
        ...

    async def equivalents(
        self, hienergy_ids: Collection[int], /
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        """Return the network records of each brand, by the id of its HiEnergy record."""
        ...


class Source(Protocol):
    """A source of truth."""

    async def authenticate(self, credential: Credential, /) -> Access | KeyRefusal:
        """Return the access of a credential, or why it has none.

        Raises:
            SourceUnavailable: the source does not respond.
        """
        ...


ContactCaller: TypeAlias = Caller[Access]
