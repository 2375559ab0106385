"""What the domain asks of a source of truth: where advertisers, contacts and keys live."""

from collections.abc import Collection, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Authenticated, Credential, Identity, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import CreateContactOutcome, ReadRefusal

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


class Creation(NamedTuple):
    """One valid submission, with everything that is needed to carry it out."""

    contact: NewContact
    idempotency_key: str | None
    dry_run: bool
    origin: Origin | None = None


class PageRequest(NamedTuple):
    """The page of a list to return: `number` starts at 1, `size` is 1 to 100."""

    number: int
    size: int


class Page(NamedTuple, Generic[T]):
    """One page of a list."""

    items: Sequence[T]
    request: PageRequest
    has_more: bool


class ContactFilter(NamedTuple):
    """Filters for contacts; all that are set must match. Case never matters.

    `q` and `advertiser_name` match any part, `email` and `domain` the whole value. `advertiser_id`
    is the id of any of a brand's records.
    """

    q: str | None = None
    email: str | None = None
    advertiser_id: int | None = None
    advertiser_name: str | None = None
    domain: str | None = None


class AdvertiserFilter(NamedTuple):
    """Filters for advertisers. `q` matches any part of the names, slug and domain.

    `hienergy_id` matches all records of one brand, including its HiEnergy record.
    """

    q: str | None = None
    domain: str | None = None
    hienergy_id: int | None = None


class Access(Authenticated, Protocol):
    """A source of truth as one authenticated caller may use it: its operations.

    Every method may raise `SourceUnavailable`. A source that judges credentials itself returns the
    rules' own refusals.
    """

    async def identify(self) -> Identity | ReadRefusal:
        """Return the label and the role of the credential."""
        ...

    async def create_contact(self, creation: Creation, /) -> CreateContactOutcome:
        """Apply rules 5 to 7, as `policy` has them, to one submission.

        Return only once a created contact is durable. Raise if that is unknown.
        """
        ...

    async def contact(self, contact_id: int, /) -> Contact | ReadRefusal | None:
        """Return one contact, or None."""
        ...

    async def contacts(
        self, wanted: ContactFilter, page: PageRequest, /
    ) -> Page[Contact] | ReadRefusal:
        """Return a page of contacts, newest first."""
        ...

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest, /
    ) -> Page[Advertiser] | ReadRefusal:
        """Return a page of advertisers, newest first."""
        ...

    async def advertisers_by_id(
        self, ids: Collection[int], /
    ) -> Mapping[int, Advertiser | ReadRefusal]:
        """Return the advertisers that exist, by id."""
        ...

    async def advertiser_by_slug(self, slug: str, /) -> Advertiser | ReadRefusal | None:
        """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
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
