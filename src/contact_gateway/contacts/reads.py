"""The reads: validate filters and pages, and ask the source.

Any valid key may read. All reads of one request count as one operation.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, TypeVar
from urllib.parse import unquote

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from contact_gateway.access.principals import Identity
from contact_gateway.contacts.admission import authenticated, may_read
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.fields import (
    Flag,
    Id,
    PositiveNumber,
    RequiredText,
    Text,
    id_of,
    normalize_email,
)
from contact_gateway.contacts.outcomes import (
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import (
    Problem,
    ProblemCode,
    problems_of,
    repeated_parameter,
    unknown_parameters,
)
from contact_gateway.contacts.source import (
    Access,
    AdvertiserFilter,
    ContactCaller,
    ContactFilter,
    Page,
    PageRequest,
    PassesThrough,
    SourceResponse,
)
from contact_gateway.contacts.text import trimmed

MAX_PAGE: Final = 2**31 - 1
MAX_PAGE_SIZE: Final = 100
DEFAULT_PAGE_SIZE: Final = 25

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    dry_run: Flag = False
    """Without effect: a read changes nothing. HiEnergy's SDKs can add it to every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageQuery(_Query):
    page: Annotated[PositiveNumber, Field(le=MAX_PAGE)] = 1
    per_page: PositiveNumber | None = None
    limit: PositiveNumber | None = None
    """Another name for `per_page`, which takes precedence."""

    def page_request(self) -> PageRequest:
        """Return the page. Sizes above the largest are clamped, as HiEnergy does."""
        size = self.per_page or self.limit or DEFAULT_PAGE_SIZE
        return PageRequest(self.page, min(size, MAX_PAGE_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContactQuery(_PageQuery):
    q: Text = None
    email: Text = None
    advertiser_id: Id | None = None
    advertiser_name: Text = None
    domain: Text = None
    advertiser_domain: Text = None
    query: Text = None
    search: Text = None
    name: Text = None
    phone: Text = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _AdvertiserQuery(_PageQuery):
    q: Text = None
    domain: Text = None
    hienergy_id: Id | None = None
    name: Text = None
    search: Text = None
    url: Text = None
    network: Text = None
    country: Text = None
    vertical: Text = None
    status: Text = None
    query: Text = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _DomainQuery(_PageQuery):
    domain: Text = None
    url: Text = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _SlugQuery:
    slug: RequiredText


_PAGING: Final = frozenset({"page", "per_page", "limit"})
_NO_PARAMETERS: Final[Mapping[str, object]] = MappingProxyType({})
_OTHER_NAMES: Final = {"dryRun": "dry_run"}
_DIGITS: Final = re.compile("[0-9]+")
_SLUG_IN_A_FILTER: Final = re.compile("(?=.*[A-Za-z])[A-Za-z0-9._~-]{1,255}")
# HiEnergy's `api_key`, and RFC 6750, section 2.3. Rack also splits queries at semicolons, and reads
# `[api_key]` as `api_key`. A plus sign is a space.
_CREDENTIAL_IN_A_QUERY: Final = re.compile(r"(?:^|[&;])[\s+\[\]]*(api_key|access_token)\b")
_RECORD: Final = TypeAdapter(_Query)
_SLUG: Final = TypeAdapter(_SlugQuery)
_CONTACTS: Final = TypeAdapter(_ContactQuery)
_ADVERTISERS: Final = TypeAdapter(_AdvertiserQuery)
_DOMAIN: Final = TypeAdapter(_DomainQuery)


async def viewer(caller: ContactCaller) -> Identity | ReadRefusal:
    """Return the label and the role of the caller's key."""
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    return await access.identify()


async def contact(
    caller: ContactCaller, contact_id: str, raw: Mapping[str, object] = _NO_PARAMETERS
) -> Contact | ReadRefusal | None:
    """Return one contact, or None if no contact has the id.

    Of the parameters in `raw`, only `dry_run` is known.
    """
    access = await _may_read_record(caller, raw)
    if isinstance(access, ReadRefusal):
        return access
    valid_id = id_of(contact_id)
    return None if valid_id is None else await access.contact(valid_id)


async def contacts(caller: ContactCaller, raw: Mapping[str, object]) -> Page[Contact] | ReadRefusal:
    """Return a page of contacts, in the order of the source.

    Args:
        caller: the sender of the request.
        raw: values for the source's filters, `page`, `per_page` and `limit`. None and empty texts
            count as not set.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    advertiser = raw.get("advertiser_id")
    slug = trimmed(advertiser) if isinstance(advertiser, str) else None
    if slug is not None and not _SLUG_IN_A_FILTER.fullmatch(slug):
        slug = None
    given = raw if slug is None else {**raw, "advertiser_id": None}
    query = _parsed(_CONTACTS, given, _PAGING | access.filters.contacts)
    if isinstance(query, InvalidInput):
        return query
    wanted = _contact_filter(query)._replace(advertiser_slug=slug)
    return await access.contacts(wanted, query.page_request())


async def contacts_of_advertiser(
    caller: ContactCaller, advertiser_id: str, raw: Mapping[str, object]
) -> Page[Contact] | ReadRefusal | None:
    """Return a page of a brand's contacts, or None if no advertiser has the id or slug.

    `raw` is that of `contacts`, without `advertiser_id`.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    query = _parsed(_CONTACTS, raw, _PAGING | access.filters.contacts - {"advertiser_id"})
    if isinstance(query, InvalidInput):
        return query
    valid_id = id_of(advertiser_id)
    if not _DIGITS.fullmatch(advertiser_id):
        found = await advertiser(caller, advertiser_id)
        if isinstance(found, ReadRefusal):
            return found
        valid_id = None if found is None else found.id
    if valid_id is None:
        return None
    return await access.contacts_of_brand(valid_id, _contact_filter(query), query.page_request())


async def advertisers(
    caller: ContactCaller, raw: Mapping[str, object]
) -> Page[Advertiser] | ReadRefusal:
    """Return a page of advertisers, in the order of the source.

    `raw` holds values for the source's filters, `page`, `per_page` and `limit`.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    query = _parsed(_ADVERTISERS, raw, _PAGING | access.filters.advertisers)
    if isinstance(query, InvalidInput):
        return query
    wanted = AdvertiserFilter(
        q=query.q,
        domain=query.domain,
        hienergy_id=query.hienergy_id,
        name=query.name,
        query=query.query,
        search=query.search,
        network=query.network,
        url=query.url,
        country=query.country,
        vertical=query.vertical,
        status=query.status,
    )
    return await access.advertisers(wanted, query.page_request())


async def advertisers_by_domain(
    caller: ContactCaller, raw: Mapping[str, object]
) -> Page[Advertiser] | ReadRefusal:
    """Return a page of the advertisers with a domain, in the order of the source.

    `raw` holds a domain or a URL as `domain` or `url`, and `page`, `per_page` and `limit`.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    query = _parsed(_DOMAIN, raw, _PAGING | {"domain", "url"})
    if isinstance(query, InvalidInput):
        return query
    if (query.domain is None) == (query.url is None):
        return InvalidInput(
            (Problem(("domain",), ProblemCode.INVALID_ARGUMENTS, "Give a domain or a URL."),)
        )
    wanted = AdvertiserFilter(domain_or_url=query.domain or query.url)
    return await access.advertisers(wanted, query.page_request())


async def advertiser(
    caller: ContactCaller, id_or_slug: str, raw: Mapping[str, object] = _NO_PARAMETERS
) -> Advertiser | ReadRefusal | None:
    """Return one advertiser by a path segment: digits are an id, anything else a slug.

    Of the parameters in `raw`, only `dry_run` is known.
    """
    access = await _may_read_record(caller, raw)
    if isinstance(access, ReadRefusal):
        return access
    if _DIGITS.fullmatch(id_or_slug):
        return await advertiser_by_id_or_slug(caller, id_or_slug, None)
    found = await advertiser_by_id_or_slug(caller, None, id_or_slug)
    return None if isinstance(found, InvalidInput) else found


async def advertiser_by_id_or_slug(
    caller: ContactCaller, advertiser_id: str | None, slug: str | None
) -> Advertiser | ReadRefusal | None:
    """Return the advertiser with an id or a slug (exactly one of them), or None."""
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    if advertiser_id is not None and slug is None:
        valid_id = id_of(advertiser_id)
        if valid_id is None:
            return None
        return (await access.advertisers_by_id((valid_id,))).get(valid_id)
    if slug is not None and advertiser_id is None:
        query = _parsed(_SLUG, {"slug": slug}, {"slug"})
        if isinstance(query, InvalidInput):
            return query
        return await access.advertiser_by_slug(query.slug)
    return InvalidInput(
        (Problem(("id",), ProblemCode.INVALID_ARGUMENTS, "Give either an id or a slug."),)
    )


async def pass_through(
    caller: ContactCaller, path: str, query: str
) -> SourceResponse | ReadRefusal | None:
    """Return the source's response to a read that the gateway does not have; None if it has none.

    The source decides what the credential may read. Path and query are percent-encoded.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    credential = _CREDENTIAL_IN_A_QUERY.search(unquote(query))
    if credential is not None:
        # HiEnergy may use it instead of the header's credential, the only one that is limited.
        problem = Problem(
            (credential[1],), ProblemCode.INVALID_ARGUMENTS, "Send the API key in a header."
        )
        return InvalidInput((problem,))
    return await access.pass_through(path, query) if isinstance(access, PassesThrough) else None


async def related_advertiser(
    caller: ContactCaller, advertiser_id: int
) -> Advertiser | ReadRefusal | None:
    """Return the advertiser of a record that was read already; not counted again."""
    access = await authenticated(caller)
    if isinstance(access, (Unauthorized, RateLimited)):
        return access
    return (await access.advertisers_by_id((advertiser_id,))).get(advertiser_id)


async def equivalents(
    caller: ContactCaller, hienergy_id: int
) -> Sequence[Advertiser] | ReadRefusal:
    """Return the network records of a brand that was read already; not counted again."""
    access = await authenticated(caller)
    if isinstance(access, (Unauthorized, RateLimited)):
        return access
    return (await access.equivalents((hienergy_id,))).get(hienergy_id, ())


async def _may_read_record(
    caller: ContactCaller, raw: Mapping[str, object]
) -> Access | ReadRefusal:
    access = await may_read(caller)
    if isinstance(access, ReadRefusal) or not raw:
        return access
    query = _parsed(_RECORD, raw)
    return query if isinstance(query, InvalidInput) else access


def _contact_filter(query: _ContactQuery) -> ContactFilter:
    return ContactFilter(
        q=query.q,
        email=_normalized(query.email),
        advertiser_id=query.advertiser_id,
        advertiser_name=query.advertiser_name,
        domain=query.domain,
        advertiser_domain=query.advertiser_domain,
        query=query.query,
        search=query.search,
        name=query.name,
        phone=query.phone,
    )


def _normalized(email: str | None) -> str | None:
    """Normalize an address as stored ones are; leave other text as it is, which matches none."""
    if email is None:
        return None
    try:
        return normalize_email(email)
    except PydanticCustomError:
        return email


def _parsed(
    shape: TypeAdapter[T], raw: Mapping[str, object], names: Collection[str] = ()
) -> T | InvalidInput:
    """Trim and validate parameters. An unknown one would be a filter that is not applied."""
    known = {"dry_run", *names}
    given: dict[str, object] = {}
    problems: list[Problem] = []
    unknown: list[str] = []
    for name, sent in raw.items():
        value = trimmed(sent) if isinstance(sent, str) else sent
        own_name = _OTHER_NAMES.get(name, name)
        if own_name not in known:
            unknown.append(name)
        elif isinstance(value, list) or own_name in given:
            problems.append(repeated_parameter(name))
        elif value not in (None, ""):
            given[own_name] = value
    problems += unknown_parameters(unknown, known)
    try:
        query = shape.validate_python(given)
    except ValidationError as error:
        return InvalidInput((*problems_of(error), *problems))
    return InvalidInput(tuple(problems)) if problems else query
