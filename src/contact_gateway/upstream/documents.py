"""Upstream's resources, read: what is needed must be there, what is not known is passed over.

Source: HiEnergy's published reference and its official clients, which know a resource by `id`,
`type` and `attributes`, a list by `data` with `meta` beside it.
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

# GraphQL's `Int` ends there.
_LARGEST_INT: Final = 2**31 - 1


class UnreadableError(ValueError):
    """An answer that should hold a resource holds none that can be read."""


def _in_utc(moment: datetime) -> datetime:
    """Read a time that names no zone as UTC, in which HiEnergy's are."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is no time in UTC") from None


_Moment = Annotated[datetime, AfterValidator(_in_utc)]


class _Resource(BaseModel):
    """The fields of a resource, whether they stand beside its id or in `attributes`."""

    # A telephone number, say, may come as a number.
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
    created_at: _Moment
    updated_at: _Moment | None = None


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
    """Return the resource that a document holds as `data`; None where it holds none."""
    return body.get("data") if isinstance(body, dict) else None


def contact_of(resource: object) -> Contact:
    """Read a contact.

    Raises:
        UnreadableError: something that every contact has is missing or wrong.
    """
    read = _read(_Contact, resource)
    return Contact(
        id=read.id,
        details=_details(read),
        advertiser_name=read.advertiser_name,
        created_at=read.created_at,
        updated_at=read.updated_at or read.created_at,
    )


def is_stored(resource: object) -> bool:
    """Tell whether a resource is of something that is stored: it has an id."""
    return isinstance(resource, Mapping) and resource.get("id") is not None


def preview_of(resource: object) -> ContactPreview:
    """Read what a dry run would create.

    Raises:
        UnreadableError: something that every preview has is missing or wrong.
    """
    read = _read(_Details, resource)
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
    """Read an advertiser. A HiEnergy record is its own, whether upstream says so or not.

    Raises:
        UnreadableError: something that every advertiser has is missing or wrong.
    """
    read = _read(_Advertiser, resource)
    name = read.name or read.display_name
    if name is None:
        raise UnreadableError("an advertiser has no name")
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


def page_of(body: object, asked: PageRequest, read: Callable[[object], T]) -> Page[T]:
    """Read a page of a list, with upstream's own paging where it tells it.

    Raises:
        UnreadableError: it is no list, or one of its records cannot be read.
    """
    items = resource_of(body)
    if not isinstance(body, dict) or not isinstance(items, list):
        raise UnreadableError("a list has no data")
    meta = _validated(_PageMeta, body.get("meta") or {})
    has_more = meta.next_page is not None if meta.has_more is None else meta.has_more
    return Page(
        items=tuple(read(item) for item in items),
        request=PageRequest(
            _counted(meta.current_page, asked.number), _counted(meta.per_page, asked.size)
        ),
        has_more=has_more,
    )


def _counted(told: int | None, otherwise: int) -> int:
    return told if told is not None and 1 <= told <= _LARGEST_INT else otherwise


_M = TypeVar("_M", bound=BaseModel)


def _read(shape: type[_M], resource: object) -> _M:
    if not isinstance(resource, Mapping):
        raise UnreadableError("there is no resource")
    attributes = resource.get("attributes")
    fields = attributes if isinstance(attributes, Mapping) else resource
    return _validated(shape, {**fields, "id": resource.get("id")})


def _validated(shape: type[_M], value: object) -> _M:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        # The texts of the error hold what upstream sent.
        places = {".".join(map(str, detail["loc"])) for detail in error.errors()}
        raise UnreadableError(f"cannot be read: {', '.join(sorted(places))}") from None
