"""The reads: validate filters and pages, and ask the source.

Any valid key may read. All reads of one request count as one operation.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, NamedTuple, TypeVar
from urllib.parse import unquote

from pydantic import Field, TypeAdapter, ValidationError

from contact_gateway.access.principals import Identity
from contact_gateway.contacts.admission import authenticated, may_read
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.advertiser_lookup import name_of_advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.fields import Flag, PositiveNumber, id_of
from contact_gateway.contacts.outcomes import InvalidInput, ReadRefusal
from contact_gateway.contacts.problems import Problem, ProblemCode, known_parameters, problems_of
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


class _Paging(NamedTuple):
    dry_run: Flag = False
    """Without effect: a read changes nothing. HiEnergy's SDKs can add it to every request."""
    page: Annotated[PositiveNumber, Field(le=MAX_PAGE)] = 1
    per_page: PositiveNumber | None = None
    limit: PositiveNumber | None = None
    """Another name for `per_page`, which counts if both are given."""

    def page_request(self) -> PageRequest:
        """Return the page. Sizes above the largest are clamped, as HiEnergy does."""
        size = self.per_page or self.limit or DEFAULT_PAGE_SIZE
        return PageRequest(self.page, min(size, MAX_PAGE_SIZE))


_PAGING: Final = frozenset(_Paging._fields)
_DIGITS: Final = re.compile("[0-9]+")
_SLUG_IN_A_FILTER: Final = re.compile("(?=.*[A-Za-z])[A-Za-z0-9._~-]{1,255}")
# HiEnergy's `api_key`, and RFC 6750, section 2.3. Rack also splits queries at semicolons, and reads
# `[api_key]` as `api_key`. A plus sign is a space.
_CREDENTIAL_IN_A_QUERY: Final = re.compile(r"(?:^|[&;])[\s+\[\]]*(api_key|access_token)\b")
_CONTACTS: Final = TypeAdapter(tuple[_Paging, ContactFilter])
_ADVERTISERS: Final = TypeAdapter(tuple[_Paging, AdvertiserFilter])


async def viewer(caller: ContactCaller) -> Identity | ReadRefusal:
    """Return the label and the role of the caller's key."""
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    return await access.identify()


async def contact(
    caller: ContactCaller, contact_id: str, raw: Mapping[str, object] | None = None
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
    text = trimmed(advertiser) if isinstance(advertiser, str) else ""
    slug = text if _SLUG_IN_A_FILTER.fullmatch(text) else None
    given = raw if slug is None else {**raw, "advertiser_id": None}
    query = _parsed(_CONTACTS, given, _PAGING | access.filters.contacts)
    if isinstance(query, InvalidInput):
        return query
    wanted, page = query
    return await access.contacts(wanted._replace(advertiser_slug=slug), page)


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
    return await access.contacts_of_brand(valid_id, *query)


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
    return await access.advertisers(*query)


async def advertisers_by_domain(
    caller: ContactCaller, raw: Mapping[str, object]
) -> Page[Advertiser] | ReadRefusal:
    """Return a page of the advertisers with a domain, in the order of the source.

    `raw` holds a domain or a URL as `domain` or `url`, and `page`, `per_page` and `limit`.
    """
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    query = _parsed(_ADVERTISERS, raw, _PAGING | {"domain", "url"})
    if isinstance(query, InvalidInput):
        return query
    wanted, page = query
    if (wanted.domain is None) == (wanted.url is None):
        return InvalidInput(
            (Problem(("domain",), ProblemCode.INVALID_ARGUMENTS, "Give a domain or a URL."),)
        )
    return await access.advertisers(
        AdvertiserFilter(domain_or_url=wanted.domain or wanted.url), page
    )


async def advertiser(
    caller: ContactCaller, id_or_slug: str, raw: Mapping[str, object] | None = None
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
        valid_slug, problems = name_of_advertiser(slug, "slug")
        return InvalidInput(problems) if problems else await access.advertiser_by_slug(valid_slug)
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
    if isinstance(access, ReadRefusal):
        return access
    return (await access.advertisers_by_id((advertiser_id,))).get(advertiser_id)


async def equivalents(
    caller: ContactCaller, hienergy_id: int
) -> Sequence[Advertiser] | ReadRefusal:
    """Return the network records of a brand that was read already; not counted again."""
    access = await authenticated(caller)
    if isinstance(access, ReadRefusal):
        return access
    return (await access.equivalents((hienergy_id,))).get(hienergy_id, ())


async def _may_read_record(
    caller: ContactCaller, raw: Mapping[str, object] | None
) -> Access | ReadRefusal:
    access = await may_read(caller)
    if isinstance(access, ReadRefusal) or not raw:
        return access
    query = _parsed(_ADVERTISERS, raw, {"dry_run"})
    return query if isinstance(query, InvalidInput) else access


def _parsed(
    shape: TypeAdapter[tuple[_Paging, T]], raw: Mapping[str, object], known: Collection[str]
) -> tuple[T, PageRequest] | InvalidInput:
    """Trim and validate parameters. An unknown one would be a filter that is not applied."""
    sent = {
        name: (trimmed(value) or None) if isinstance(value, str) else value
        for name, value in raw.items()
    }
    filters, problems = known_parameters(sent, known)
    paging = {name: filters.pop(name) for name in _Paging._fields if name in filters}
    try:
        valid, wanted = shape.validate_python((paging, filters))
    except ValidationError as error:
        # Each path begins with the position in the tuple.
        invalid = (each._replace(path=each.path[1:]) for each in problems_of(error))
        return InvalidInput((*invalid, *problems))
    return InvalidInput(tuple(problems)) if problems else (wanted, valid.page_request())
