"""The advertiser that a text names: by its id, slug, domain or name."""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import TypeAdapter, ValidationError

from contact_gateway.contacts.admission import may_read
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.fields import RequiredText, id_of
from contact_gateway.contacts.outcomes import InvalidInput, NotFound, ReadRefusal
from contact_gateway.contacts.problems import Problem, problems_of, unknown_parameters
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    Advertisers,
    ContactCaller,
    PageRequest,
)
from contact_gateway.contacts.text import domain_key, folded

MAX_CANDIDATES: Final = 10
"""Advertisers that are listed where several match."""

_NO_MATCH: Final = "No advertiser has this id, slug, domain or name."
_SEVERAL_MATCHES: Final = "Several advertisers match. Repeat the call with the id of one of them."
_ALL_MATCHES: Final = PageRequest(1, 100)
_NAME: Final[TypeAdapter[str]] = TypeAdapter(RequiredText)


async def find_advertiser(
    caller: ContactCaller, raw: Mapping[str, object], field: str
) -> Advertiser | NotFound | ReadRefusal:
    """Return the one advertiser that the text in `raw[field]` names, or the candidates."""
    access = await may_read(caller)
    if isinstance(access, ReadRefusal):
        return access
    name, problems = name_of_advertiser(raw.get(field), field)
    unknown = unknown_parameters((each for each in raw if each != field), (field,))
    if problems or unknown:
        return InvalidInput((*problems, *unknown))
    return await advertiser_named(access, name)


def name_of_advertiser(raw: object, field: str) -> tuple[str, tuple[Problem, ...]]:
    """Return the text that names an advertiser, and its problems. An id may be a number."""
    try:
        return _NAME.validate_python(str(raw) if type(raw) is int else raw), ()
    except ValidationError as error:
        return "", problems_of(error, field)


async def advertiser_named(
    access: Advertisers, name: str, *, accepts_names: bool = True
) -> Advertiser | NotFound | ReadRefusal:
    """Return the one advertiser that a text names, or the candidates.

    The first that matches decides: an id, a slug, a domain, a whole name, a part of a name. The
    records of one brand are one advertiser, which is its HiEnergy record if that matches. The last
    two only if names are accepted.
    """
    if (an_id := id_of(name)) is not None:
        return (await access.advertisers_by_id((an_id,))).get(an_id) or NotFound(_NO_MATCH)
    is_one_word = not any(character.isspace() for character in name)
    wanted = [AdvertiserFilter(name=name)] if accepts_names else []
    if is_one_word:
        record = await access.advertiser_by_slug(name)
        if record is not None:
            return record
        if "." in name:
            wanted.insert(0, AdvertiserFilter(domain=name))
    for each in wanted:
        page = await access.advertisers(each, _ALL_MATCHES)
        if isinstance(page, ReadRefusal):
            return page
        records = page.items if accepts_names else _of_domain(name, page.items)
        brands = _brands_named(name, records)
        if len(brands) == 1 and not page.has_more:
            return brands[0]
        if brands:
            return NotFound(_SEVERAL_MATCHES, candidates=brands[:MAX_CANDIDATES])
    return NotFound(_NO_MATCH)


def _of_domain(domain: str, records: Sequence[Advertiser]) -> Sequence[Advertiser]:
    key = domain_key(domain)
    return [each for each in records if each.domain and domain_key(each.domain) == key]


def _brands_named(name: str, records: Sequence[Advertiser]) -> tuple[Advertiser, ...]:
    """Return the brands that a domain or name matches best, each as one of the records.

    The match is checked here too: HiEnergy may ignore a filter, or return similar records.
    """
    text = folded(name)
    named = [(each, (folded(each.name), folded(each.display_name or ""))) for each in records]
    exact = _of_domain(name, records) or [each for each, names in named if text in names]
    matches = (
        # A record without a brand owns no contacts, and HiEnergy may not show its brand.
        [each for each in exact if each.hienergy_id is not None]
        or exact
        or [each for each, names in named if any(text in part_of for part_of in names)]
    )
    brands: dict[int, Advertiser] = {}
    for each in sorted(matches, key=lambda match: (not match.is_hienergy, match.id)):
        brands.setdefault(each.hienergy_id or each.id, each)
    return tuple(brands.values())
