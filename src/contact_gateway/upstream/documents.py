"""Parsers of upstream's JSON documents. Required fields must be valid; unknown ones are ignored.

Source: HiEnergy's published reference and its official clients. A resource has `id`, `type` and
`attributes`; a list has `data` and `meta`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.contact import Contact, ContactDetails, ContactPreview
from contact_gateway.contacts.fields import Id
from contact_gateway.contacts.source import Page, PageRequest

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

# The largest `Int` of GraphQL.
_MAX_INT: Final = 2**31 - 1


class UnreadableError(ValueError):
    """A response does not contain the resource that it should, or an invalid one."""


def _in_utc(time: datetime) -> datetime:
    """Convert a time to UTC, which is also HiEnergy's default if a time has no zone."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range in UTC") from None


_UtcDatetime = Annotated[datetime, AfterValidator(_in_utc)]


class _Resource(BaseModel):
    # Upstream may send a number for a text, such as a telephone number.
    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True)


class _Details(_Resource):
    advertiser_id: Id
    advertiser_name: str | None = None
    email: str
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    phone: str | None = None
    job_title: str | None = None
    source: str | None = None
    status: str | None = None
    linkedin_profile_url: str | None = None


class _Contact(_Details):
    id: Id
    created_at: _UtcDatetime
    updated_at: _UtcDatetime | None = None


class _Advertiser(_Resource):
    id: Id
    name: str | None = None
    display_name: str | None = None
    slug: str | None = None
    domain: str | None = None
    network_name: str
    publisher_name: str | None = None
    status: str | None = None
    hienergy_id: Id | None = None


class _PageMeta(BaseModel):
    current_page: int | None = None
    next_page: int | None = None
    per_page: int | None = None
    has_more: bool | None = None


def resource_of(body: object) -> object:
    """Return the `data` of a document, or None."""
    return body.get("data") if isinstance(body, dict) else None


def contact_of(resource: object) -> Contact:
    """Parse a contact.

    Raises:
        UnreadableError: a required field is missing, or a field is invalid.
    """
    read = _parsed(_Contact, resource)
    return Contact(
        id=read.id,
        details=_details(read),
        advertiser_name=read.advertiser_name,
        created_at=read.created_at,
        updated_at=read.updated_at or read.created_at,
    )


def is_stored(resource: object) -> bool:
    """Return whether a resource has an id, so upstream has stored it."""
    return isinstance(resource, Mapping) and resource.get("id") is not None


def preview_of(resource: object) -> ContactPreview:
    """Parse the contact that a dry run would create.

    Raises:
        UnreadableError: a required field is missing, or a field is invalid.
    """
    read = _parsed(_Details, resource)
    return ContactPreview(_details(read), read.advertiser_name)


def _details(read: _Details) -> ContactDetails:
    return ContactDetails(
        advertiser_id=read.advertiser_id,
        email=read.email,
        name=read.name,
        given_name=read.given_name,
        family_name=read.family_name,
        phone=read.phone,
        job_title=read.job_title,
        source=read.source,
        status=read.status,
        linkedin_profile_url=read.linkedin_profile_url,
    )


def advertiser_of(resource: object) -> Advertiser:
    """Parse an advertiser. The `hienergy_id` of a HiEnergy record is its own id, sent or not.

    Raises:
        UnreadableError: a required field is missing, or a field is invalid.
    """
    read = _parsed(_Advertiser, resource)
    name = read.name or read.display_name
    if name is None:
        raise UnreadableError("the advertiser has no name")
    is_hienergy = read.network_name == HIENERGY_NETWORK
    return Advertiser(
        id=read.id,
        name=name,
        display_name=read.display_name,
        slug=read.slug,
        domain=read.domain,
        network_name=read.network_name,
        publisher_name=read.publisher_name,
        status=read.status,
        hienergy_id=read.id if is_hienergy else read.hienergy_id,
    )


def page_of(body: object, requested: PageRequest, parse: Callable[[object], T]) -> Page[T]:
    """Parse a page of a list. Its number and size are upstream's, or else the requested ones.

    Raises:
        UnreadableError: the body is not a list, or one of its records is invalid.
    """
    items = resource_of(body)
    if not isinstance(body, dict) or not isinstance(items, list):
        raise UnreadableError("the list has no data")
    meta = _validated(_PageMeta, body.get("meta") or {})
    has_more = meta.next_page is not None if meta.has_more is None else meta.has_more
    return Page(
        items=tuple(parse(item) for item in items),
        request=PageRequest(
            _positive_int(meta.current_page, requested.number),
            _positive_int(meta.per_page, requested.size),
        ),
        has_more=has_more,
    )


def _positive_int(value: int | None, default: int) -> int:
    return value if value is not None and 1 <= value <= _MAX_INT else default


def _parsed(model: type[M], resource: object) -> M:
    """Parse a resource, whether its fields are in `attributes` or next to its id."""
    if not isinstance(resource, Mapping):
        raise UnreadableError("the resource is missing")
    attributes = resource.get("attributes")
    fields = attributes if isinstance(attributes, Mapping) else resource
    return _validated(model, {**fields, "id": resource.get("id")})


def _validated(model: type[M], value: object) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Only the fields, because Pydantic's messages contain the values.
        fields = {".".join(map(str, detail["loc"])) for detail in error.errors()}
        raise UnreadableError(f"invalid or missing: {', '.join(sorted(fields))}") from None
