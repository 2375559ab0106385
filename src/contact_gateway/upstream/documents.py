"""Lenient readers of upstream's JSON documents: they take what is there, by any of its names.

Source: HiEnergy's published reference, and what its official clients look for. A record is `{id,
type, attributes}` or flat, below `data`, a root key such as `contact`, or both. Most fields may be
missing. A field with an odd type counts as missing.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeVar

import structlog
from pydantic import TypeAdapter

from contact_gateway.contacts.advertiser import Advertiser, is_named_hienergy
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.source import Page, PageRequest
from contact_gateway.contacts.timestamps import Timestamp, timestamp

T = TypeVar("T")

# Below, an object of JSON is a `dict`: a check for `Mapping` takes five times as long.
Fields: TypeAlias = Mapping[str, object]
Roots: TypeAlias = tuple[str, ...]

CONTACTS: Final[Roots] = ("data", "contact", "contacts")
ADVERTISERS: Final[Roots] = ("data", "advertiser", "advertisers")
"""The root keys of a document: the documented one, for one record, and for a list."""

# A root key and `data`, in either order.
_MAX_LEVELS: Final = 2
# The largest `Int` of GraphQL.
_MAX_INT: Final = 2**31 - 1

_log = structlog.get_logger(__name__)


class UnreadableError(ValueError):
    """A response does not contain the record that it should.

    `fields` are the names of what is missing or invalid, without their values.
    """

    def __init__(self, *fields: str) -> None:
        super().__init__(f"missing or invalid: {', '.join(fields)}")
        self.fields = fields


_NO_FIELDS: Final[Fields] = {}
_DIGITS: Final = re.compile("[0-9]{1,19}")
_UTC_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z"
)
_DAY: Final = re.compile("[0-9]{4}-?[0-9]{2}-?[0-9]{2}")
_TIME: Final[TypeAdapter[datetime]] = TypeAdapter(datetime)


def resource_of(body: object, roots: Roots = CONTACTS) -> object:
    """Return the record of a document, below one or two of its root keys; else None."""
    content, around = unwrapped(body, roots)
    return content if around else None


def says_dry_run(body: object) -> bool:
    """Return whether a document says that it is of a dry run, on any level or in its `meta`."""
    content, around = unwrapped(body, CONTACTS)
    return any(
        place.get("dry_run") is True
        for level in (*around, content)
        if isinstance(level, dict)
        for place in (level, level.get("meta"), level.get("attributes"))
        if isinstance(place, dict)
    )


def fields_of(resource: object) -> Fields | None:
    """Return the fields of a record, whether they are in `attributes` or next to its id."""
    if not isinstance(resource, dict):
        return None
    attributes = resource.get("attributes")
    if not isinstance(attributes, dict):
        return resource
    fields: dict[str, object] = {**resource, **attributes}
    an_id = resource.get("id")
    if an_id is not None:
        fields["id"] = an_id
    return fields


def owner_of(fields: Fields) -> tuple[int | None, str | None]:
    """Return the id and the name of a contact's advertiser, as far as its fields show them."""
    field = fields.get
    embedded = field("advertiser")
    owner = embedded.get if isinstance(embedded, dict) else _NO_FIELDS.get
    related_id = None
    if isinstance(relationships := field("relationships"), dict):
        related = resource_of(relationships.get("advertiser"), ADVERTISERS)
        related_id = related.get("id") if isinstance(related, dict) else None
    return (
        numeric_id(field("advertiser_id")) or numeric_id(owner("id")) or numeric_id(related_id),
        _text(field("advertiser_name")) or _text(owner("display_name")) or _text(owner("name")),
    )


def contact_of(resource: object, *, advertiser_id: int | None = None) -> Contact:
    """Return a contact, owned by `advertiser_id` if the document shows no owner.

    Raises:
        UnreadableError: it has no id, or no owner.
    """
    fields = fields_of(resource)
    if fields is None:
        raise UnreadableError("contact")
    field = fields.get
    an_id = numeric_id(field("id"))
    if an_id is None:
        raise UnreadableError("id")
    owner_id, owner_name = owner_of(fields)
    owner_id = owner_id or advertiser_id
    if owner_id is None:
        raise UnreadableError("advertiser_id")
    return Contact(
        id=an_id,
        advertiser_id=owner_id,
        email=_text(field("email")),
        name=_text(field("name")),
        given_name=_text(field("given_name")),
        family_name=_text(field("family_name")),
        phone=_text(field("phone")),
        job_title=_text(field("job_title")) or _text(field("title")),
        source=_text(field("source")),
        status=_text(field("status")),
        linkedin_profile_url=(
            _text(field("linkedin_profile_url"))
            or _text(field("linkedin_url"))
            or _text(field("linkedin"))
        ),
        advertiser_name=owner_name,
        created_at=time_of(field("created_at")),
        updated_at=time_of(field("updated_at")),
    )


def advertiser_of(resource: object) -> Advertiser:
    """Return an advertiser. `hienergy_id` is its own id if its network or publisher is HiEnergy.

    The published reference speaks of HiEnergy's network, its fixtures show HiEnergy's publisher.

    Raises:
        UnreadableError: it has no id, or no name.
    """
    fields = fields_of(resource)
    if fields is None:
        raise UnreadableError("advertiser")
    field = fields.get
    an_id = numeric_id(field("id"))
    if an_id is None:
        raise UnreadableError("id")
    display_name, slug = _text(field("display_name")), _text(field("slug"))
    name = _text(field("name")) or display_name or slug
    if name is None:
        raise UnreadableError("name")
    network_name = _text(field("network_name"))
    publisher_name = _text(field("publisher_name"))
    is_hienergy = any(is_named_hienergy(text) for text in (network_name, publisher_name) if text)
    return Advertiser(
        id=an_id,
        name=name,
        display_name=display_name,
        slug=slug,
        domain=_text(field("domain")),
        network_name=network_name,
        publisher_name=publisher_name,
        status=_text(field("status")) or _text(field("program_status")),
        hienergy_id=an_id if is_hienergy else numeric_id(field("hienergy_id")),
    )


def page_of(
    body: object, roots: Roots, requested: PageRequest, parse: Callable[[object], T]
) -> Page[T]:
    """Return a page of a list. Rows that `parse` cannot read are left out, counted and logged.

    One record instead of a list, as a lookup may return, is a page of one.

    Number and size are upstream's, or else the requested ones. If upstream does not say whether
    there is more, a full page means that there may be.

    Raises:
        UnreadableError: the body contains no list.
    """
    rows, around = unwrapped(body, roots)
    if isinstance(rows, dict) and "id" in rows:
        rows = [rows]
    if not isinstance(rows, list) or not around:
        raise UnreadableError("data")
    items: list[T] = []
    missing: set[str] = set()
    for row in rows:
        try:
            items.append(parse(row))
        except UnreadableError as error:
            missing.update(error.fields)
    skipped = len(rows) - len(items)
    if skipped:
        _log.warning("rows of a list are left out", rows=skipped, missing=sorted(missing))
    paging = _paging(around)
    stated_size = _first_number(paging, "per_page", "limit")
    size = stated_size or requested.size
    stated = has_more(paging)
    return Page(
        items=tuple(items),
        request=PageRequest(
            _first_number(paging, "current_page", "page") or requested.number, size
        ),
        has_more=len(rows) >= size if stated is None else stated,
        skipped=skipped,
        is_guess=stated is None and stated_size is None,
    )


def unwrapped(body: object, roots: Roots) -> tuple[object, Sequence[Fields]]:
    """Return the content of a document, and the objects around it, outermost first."""
    around: list[Fields] = []
    while isinstance(body, dict) and len(around) < _MAX_LEVELS:
        if around and "id" in body:
            break
        for root in roots:
            inner = body.get(root)
            if inner is not None:
                break
        else:
            break
        around.append(body)
        body = inner
    return body, around


def _paging(around: Iterable[Fields]) -> Sequence[Fields]:
    """Return the objects in which a list may say which page it is."""
    candidates: list[object] = []
    for level in around:
        meta = level.get("meta")
        in_meta = meta.get("pagination") if isinstance(meta, dict) else None
        candidates += [meta, in_meta, level.get("pagination"), level]
    return [candidate for candidate in candidates if isinstance(candidate, dict)]


def has_more(paging: Sequence[Fields]) -> bool | None:
    """Return whether a list says that there is a next page; None if it does not say."""
    for fields in paging:
        if isinstance(stated := fields.get("has_more"), bool):
            return stated
    pages = [fields["next_page"] for fields in paging if "next_page" in fields]
    cursors = [fields["next_cursor"] for fields in paging if "next_cursor" in fields]
    if any(map(_number, pages)) or any(cursor not in (None, "") for cursor in cursors):
        return True
    return False if None in (*pages, *cursors) else None


def _first_number(paging: Iterable[Fields], *names: str) -> int | None:
    numbers = (_number(fields.get(name)) for fields in paging for name in names)
    return next((number for number in numbers if number is not None), None)


def _number(value: object) -> int | None:
    number = numeric_id(value)
    return number if number is not None and number <= _MAX_INT else None


def numeric_id(value: object) -> int | None:
    """Return a value that is an id, as a number or as digits; a slug is none."""
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ID:
        return value
    return None


def _text(value: object) -> str | None:
    """Return a text that is not blank, or a number as text, such as a telephone number."""
    if value is None:
        return None
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else None


def time_of(value: object) -> Timestamp | None:
    """Return a time. HiEnergy means UTC if it has no zone. A day is none: it begins earlier."""
    if value is None:
        return None
    try:
        # The usual form, in a fourth of the time.
        if isinstance(value, str) and _UTC_TIME.fullmatch(value):
            return timestamp(datetime.fromisoformat(value))
        if _DAY.fullmatch(str(value)):
            return None
        time = _TIME.validate_python(value)
        return timestamp(time.replace(tzinfo=UTC) if time.tzinfo is None else time)
    except (ValueError, OverflowError):
        return None
