"""The reads: who may read, and how raw values become a filter and a page.

Any valid key may read. All the reads of one request count as one operation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import AnyPrincipal, Identity
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.create_contact import identified
from contact_gateway.contacts.fields import Id, PositiveNumber, RequiredText, Text, normalize_email
from contact_gateway.contacts.outcomes import (
    Forbidden,
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem, ProblemCode, problems_of
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Page,
    PageRequest,
    Source,
)

MAX_PAGE: Final = 2**31 - 1
MAX_PAGE_SIZE: Final = 100
DEFAULT_PAGE_SIZE: Final = 25

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paged:
    page: Annotated[PositiveNumber, Field(le=MAX_PAGE)] = 1
    per_page: Annotated[PositiveNumber, Field(le=MAX_PAGE_SIZE)] | None = None
    limit: Annotated[PositiveNumber, Field(le=MAX_PAGE_SIZE)] | None = None
    """Another name of `per_page`, which wins over it."""

    def page_request(self) -> PageRequest:
        """Return the page that is wanted."""
        return PageRequest(self.page, self.per_page or self.limit or DEFAULT_PAGE_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContactsWanted(_Paged):
    q: Text = None
    email: Text = None
    advertiser_id: Id | None = None
    advertiser_name: Text = None
    domain: Text = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdvertisersWanted(_Paged):
    q: Text = None
    domain: Text = None
    hienergy_id: Id | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _SlugWanted:
    slug: RequiredText


_REFUSALS: Final = (Unauthorized, Forbidden, RateLimited, InvalidInput)
_DIGITS: Final = re.compile("[0-9]+")
_SLUG: Final = TypeAdapter(_SlugWanted)
_CONTACTS: Final = TypeAdapter(_ContactsWanted)
_ADVERTISERS: Final = TypeAdapter(_AdvertisersWanted)
_ID: Final = TypeAdapter(Id)


async def permission(caller: Caller) -> AnyPrincipal | Unauthorized | RateLimited:
    """Decide whether the caller may read, once for all the reads of a request."""
    principal = await identified(caller)
    if isinstance(principal, (Unauthorized, RateLimited)):
        return principal
    window = await caller.spend_on_reads(principal)
    if window is not None and window.exceeded:
        return RateLimited(window.seconds_left())
    return principal


async def viewer(caller: Caller, source: Source) -> Identity | ReadRefusal:
    """Return what the caller's key says of its owner."""
    principal = await permission(caller)
    if isinstance(principal, _REFUSALS):
        return principal
    return await source.identify(principal)


async def contact(caller: Caller, contact_id: str, source: Source) -> Contact | ReadRefusal | None:
    """Return one contact; None where no contact has that id."""
    principal = await permission(caller)
    if isinstance(principal, _REFUSALS):
        return principal
    wanted = _id(contact_id)
    return None if wanted is None else await source.contact(principal, wanted)


async def contacts(
    caller: Caller, raw: Mapping[str, object], source: Source
) -> Page[Contact] | ReadRefusal:
    """Return a page of contacts, newest first.

    Args:
        caller: who asks.
        raw: values by the names `q`, `email`, `advertiser_id`, `advertiser_name`, `domain`,
            `page`, `per_page` and `limit`, from the wire; None and empty texts count as not given.
        source: where contacts are kept.
    """
    principal = await permission(caller)
    if isinstance(principal, _REFUSALS):
        return principal
    wanted = _read(_CONTACTS, raw)
    if isinstance(wanted, InvalidInput):
        return wanted
    return await source.contacts(
        principal,
        ContactFilter(
            q=wanted.q,
            email=_normalized(wanted.email),
            advertiser_id=wanted.advertiser_id,
            advertiser_name=wanted.advertiser_name,
            domain=wanted.domain,
        ),
        wanted.page_request(),
    )


async def contacts_of_advertiser(
    caller: Caller, advertiser_id: str, raw: Mapping[str, object], source: Source
) -> Page[Contact] | ReadRefusal | None:
    """Return a page of a brand's contacts; None where no advertiser has that id."""
    found = await advertiser(caller, advertiser_id, source)
    if found is None or isinstance(found, _REFUSALS):
        return found
    return await contacts(caller, {**raw, "advertiser_id": found.id}, source)


async def advertisers(
    caller: Caller, raw: Mapping[str, object], source: Source
) -> Page[Advertiser] | ReadRefusal:
    """Return a page of advertisers, newest first.

    `raw` holds `q`, `domain`, `hienergy_id`, `page`, `per_page` and `limit`.
    """
    principal = await permission(caller)
    if isinstance(principal, _REFUSALS):
        return principal
    wanted = _read(_ADVERTISERS, raw)
    if isinstance(wanted, InvalidInput):
        return wanted
    return await source.advertisers(
        principal,
        AdvertiserFilter(q=wanted.q, domain=wanted.domain, hienergy_id=wanted.hienergy_id),
        wanted.page_request(),
    )


async def advertiser(
    caller: Caller, id_or_slug: str, source: Source
) -> Advertiser | ReadRefusal | None:
    """Return one advertiser by what stands in an address: digits are an id, all else a slug."""
    if _DIGITS.fullmatch(id_or_slug):
        return await advertiser_by_id_or_slug(caller, id_or_slug, None, source)
    found = await advertiser_by_id_or_slug(caller, None, id_or_slug, source)
    return None if isinstance(found, InvalidInput) else found


async def advertiser_by_id_or_slug(
    caller: Caller, advertiser_id: str | None, slug: str | None, source: Source
) -> Advertiser | ReadRefusal | None:
    """Return the advertiser with an id or, instead, a slug; None where there is none."""
    principal = await permission(caller)
    if isinstance(principal, _REFUSALS):
        return principal
    if advertiser_id is not None and slug is None:
        an_id = _id(advertiser_id)
        if an_id is None:
            return None
        return (await source.advertisers_by_id(principal, (an_id,))).get(an_id)
    if slug is not None and advertiser_id is None:
        wanted = _read(_SLUG, {"slug": slug})
        if isinstance(wanted, InvalidInput):
            return wanted
        return await source.advertiser_by_slug(principal, wanted.slug)
    return InvalidInput(
        (Problem(("id",), ProblemCode.INVALID_ARGUMENTS, "Give either an id or a slug."),)
    )


async def related_advertiser(
    caller: Caller, advertiser_id: int, source: Source
) -> Advertiser | ReadRefusal | None:
    """Return the advertiser that an answer names: part of what was asked, so not counted again."""
    principal = await identified(caller)
    if isinstance(principal, (Unauthorized, RateLimited)):
        return principal
    return (await source.advertisers_by_id(principal, (advertiser_id,))).get(advertiser_id)


async def equivalents(
    caller: Caller, hienergy_id: int, source: Source
) -> Sequence[Advertiser] | ReadRefusal:
    """Return a brand's network records, likewise."""
    principal = await identified(caller)
    if isinstance(principal, (Unauthorized, RateLimited)):
        return principal
    return (await source.equivalents(principal, (hienergy_id,))).get(hienergy_id, ())


def _id(text: str) -> int | None:
    try:
        return _ID.validate_python(text)
    except ValidationError:
        return None


def _normalized(email: str | None) -> str | None:
    """Spell an address as contacts have it; what is no address is no contact's."""
    if email is None:
        return None
    try:
        return normalize_email(email)
    except PydanticCustomError:
        return email


def _read(shape: TypeAdapter[T], raw: Mapping[str, object]) -> T | InvalidInput:
    given = {name: value for name, value in raw.items() if value not in (None, "")}
    try:
        return shape.validate_python(given)
    except ValidationError as error:
        return InvalidInput(problems_of(error))
