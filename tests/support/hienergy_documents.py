"""The documents of the fake HiEnergy, in the shape that its traits say."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from contact_gateway.contacts.advertiser import Advertiser
from support.gateway import CATALOGUE
from support.hienergy_traits import Duplicates, ErrorBody, Mark, Paging, Rows, Shown, Traits

FIELDS: Final = (
    "email",
    "name",
    "given_name",
    "family_name",
    "phone",
    "job_title",
    "source",
    "status",
    "linkedin_profile_url",
)
"""The fields that a creation may give."""

_HIENERGY: Final = "HiEnergy"
_PAGE_SIZE: Final = 25
_RENAMED: Final = {
    "job_title": "title",
    "linkedin_profile_url": "linkedin_url",
    "status": "program_status",
}
_CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    422: "VALIDATION_FAILED",
    429: "RATE_LIMITED",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
_TAKEN: Final = "has already been taken"
_TAKEN_SENTENCE: Final = f"Email {_TAKEN}"

Resource = Literal["contacts", "advertisers"]


def _complete(record: Advertiser) -> Advertiser:
    """Return an advertiser with a slug and a domain; the records of a brand share the domain."""
    brand = record.name.split()[0].lower()
    return record._replace(
        slug=record.name.lower().replace(" ", "-"),
        domain=f"{brand}.example",
        status="active",
    )


ADVERTISERS: Final[Mapping[int, Advertiser]] = {
    record.id: _complete(record) for record in CATALOGUE
}


@dataclass(slots=True, kw_only=True)
class StoredContact:
    """A contact that HiEnergy has. A rating of 0 is none."""

    id: int
    advertiser_id: int
    fields: dict[str, object]
    created_at: datetime
    updated_at: datetime
    rating: int = 0
    lag: int = 0
    """How many list calls it is still missing from."""

    made_by: str | None = None
    """The `Idempotency-Key` of the creation that made it."""

    @property
    def email(self) -> str | None:
        email = self.fields.get("email")
        return email if isinstance(email, str) else None


class Reply(NamedTuple):
    """A response without its general headers."""

    status: int
    body: str = ""
    media_type: str = "application/json"


class RefusedError(Exception):
    """An error response. Without a style, its body is that of the traits."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str = "base",
        details: object = None,
        style: ErrorBody | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.details = details
        self.style = style


def json_reply(status: int, document: object) -> Reply:
    return Reply(status, json.dumps(document))


def html_reply(status: int, text: str) -> Reply:
    return Reply(status, f"<!DOCTYPE html><title>{text}</title><h1>{text}</h1>", "text/html")


def one_reply(
    traits: Traits, root: Resource, row: object, *, status: int = 200, **beside: object
) -> Reply:
    """Return the document of one record."""
    return json_reply(status, _rooted(traits, root, {"data": row, **beside}))


def list_reply(
    traits: Traits, root: Resource, rows: Sequence[object], query: Mapping[str, str]
) -> Reply:
    """Return the page of a list that a query asks for."""
    if traits.odd_rows:
        without_id = {"attributes": {"email": "odd@example.com", "name": "Odd"}}
        rows = [None, without_id, *rows]
    wanted_size = query.get("per_page") or query.get("limit")
    size = min(_positive(traits, wanted_size, _PAGE_SIZE), traits.page_cap)
    page = _positive(traits, query.get("page"), 1)
    cursor = query.get("cursor") or query.get("after")
    start = (page - 1) * size
    if cursor is not None and traits.paging is Paging.CURSOR:
        start = _positive(traits, cursor.removeprefix("from-"), 0)
    end = start + size
    has_more = end < len(rows)
    place = {
        "current_page": page,
        "next_page": page + 1 if has_more else None,
        "per_page": size,
        "has_more": has_more,
    }
    body: dict[str, object] = {"data": rows[start:end]}
    match traits.paging:
        case Paging.META:
            body["meta"] = place
        case Paging.PAGINATION_IN_META:
            body["meta"] = {"pagination": place}
        case Paging.PAGINATION:
            body["pagination"] = place
        case Paging.HAS_MORE_ALONE:
            body["has_more"] = has_more
        case Paging.HAS_MORE_IN_META:
            body["meta"] = {"has_more": has_more}
        case Paging.LIMIT_ALONE:
            body["meta"] = {"limit": size}
        case Paging.CURSOR:
            body["meta"] = {"per_page": size, "next_cursor": f"from-{end}" if has_more else None}
        case Paging.NOTHING:
            pass
    return json_reply(200, _rooted(traits, root, body))


def created_reply(traits: Traits, contact: StoredContact, *, status: int) -> Reply:
    """Return the answer to a creation."""
    match traits.creation_shows:
        case Shown.FULL:
            row = contact_row(traits, contact, shows_owner=traits.shows_owner)
            return one_reply(traits, "contacts", row, status=status)
        case Shown.ID_ALONE:
            return one_reply(traits, "contacts", {"id": _id(traits, contact.id)}, status=status)
        case Shown.EMPTY_DATA:
            return one_reply(traits, "contacts", {}, status=status)
        case Shown.NO_CONTENT:
            return Reply(204)


def contact_row(
    traits: Traits, contact: StoredContact, *, shows_owner: bool = True
) -> dict[str, object]:
    fields: dict[str, object] = {name: contact.fields.get(name) for name in FIELDS}
    if traits.renamed_fields:
        # A contact's status keeps its name.
        fields = {
            name if name == "status" else _RENAMED.get(name, name): value
            for name, value in fields.items()
        }
    owner = _owner(traits, ADVERTISERS[contact.advertiser_id]) if shows_owner else {}
    shown = _day if traits.shows_days else _time
    times = {"created_at": shown(contact.created_at), "updated_at": shown(contact.updated_at)}
    return _row(
        traits,
        "contact",
        contact.id,
        {**owner, **fields, **(times if traits.shows_times else {})},
    )


def _owner(traits: Traits, owner: Advertiser) -> dict[str, object]:
    shown_id = owner.slug if traits.owner_as_slug else _id(traits, owner.id)
    if traits.nested_advertiser:
        return {"advertiser": {"id": shown_id, "name": owner.title}}
    name = {"advertiser_name": owner.title} if traits.shows_advertiser_name else {}
    return {"advertiser_id": shown_id, **name}


def network_of(traits: Traits, record: Advertiser) -> str | None:
    """Return the network that an advertiser shows."""
    if not record.is_hienergy:
        return None if traits.sparse_advertisers else record.network_name
    if traits.mark is Mark.NETWORK:
        return _HIENERGY
    return None if traits.sparse_advertisers else "Impact"


def advertiser_row(traits: Traits, record: Advertiser) -> dict[str, object]:
    publisher = _HIENERGY if record.is_hienergy else "Partner Media"
    network = network_of(traits, record)
    attributes: dict[str, object] = {
        "name": record.name,
        "slug": record.slug,
        "domain": record.domain,
        "publisher_name": publisher if traits.mark is Mark.PUBLISHER else None,
    }
    if network is not None:
        attributes["network_name"] = network
    if not traits.sparse_advertisers:
        attributes["display_name"] = record.display_name
        attributes[_RENAMED["status"] if traits.renamed_fields else "status"] = record.status
    if traits.shows_hienergy_id:
        hienergy_id = record.hienergy_id
        attributes["hienergy_id"] = None if hienergy_id is None else _id(traits, hienergy_id)
    return _row(traits, "advertiser", record.id, attributes)


def _row(
    traits: Traits, kind: str, record_id: int, attributes: dict[str, object]
) -> dict[str, object]:
    if not traits.shows_blank:
        attributes = {name: value for name, value in attributes.items() if value is not None}
    shown_id = _id(traits, record_id)
    match traits.rows:
        case Rows.RESOURCE:
            return {"id": shown_id, "type": kind, "attributes": attributes}
        case Rows.FLAT:
            return {"id": shown_id, **attributes}


def duplicate_reply(traits: Traits, existing: StoredContact) -> Reply | None:
    """Return the refusal of a duplicate, or None where it is none.

    Raises:
        RefusedError: the refusal has an error body like any other.
    """
    match traits.duplicates:
        case Duplicates.CONFLICT:
            raise RefusedError(409, _TAKEN_SENTENCE, field="email")
        case Duplicates.CONFLICT_WITH_CONTACT:
            details = {"existing": contact_row(traits, existing)}
            raise RefusedError(409, _TAKEN_SENTENCE, details=details, style=ErrorBody.ENVELOPE)
        case Duplicates.TAKEN_ENVELOPE:
            taken = {"email": [_TAKEN]}
            raise RefusedError(422, _TAKEN_SENTENCE, details=taken, style=ErrorBody.ENVELOPE)
        case Duplicates.TAKEN_RAILS:
            return json_reply(422, {"errors": {"email": [_TAKEN]}})
        case Duplicates.TAKEN_FLAT:
            return json_reply(422, {"email": [_TAKEN]})
        case Duplicates.TAKEN_SENTENCES:
            return json_reply(422, {"errors": [_TAKEN_SENTENCE]})
        case Duplicates.TAKEN_POINTER:
            source = {"pointer": "/data/attributes/email"}
            return json_reply(422, {"errors": [{"source": source, "detail": _TAKEN_SENTENCE}]})
        case Duplicates.TAKEN_FIELDS:
            return json_reply(422, {"errors": [{"field": "email", "message": _TAKEN}]})
        case Duplicates.CREATED_AGAIN | Duplicates.MERGED | Duplicates.RETURNED:
            return None


def error_reply(traits: Traits, error: RefusedError, *, request_id: str, now: datetime) -> Reply:
    match error.style or traits.error_body:
        case ErrorBody.ENVELOPE:
            envelope = {
                "code": _CODES[error.status],
                "message": error.message,
                "details": {} if error.details is None else error.details,
                "request_id": request_id,
                "timestamp": _time(now),
            }
            return json_reply(error.status, {"error": envelope})
        case ErrorBody.TEXT:
            return json_reply(error.status, {"error": error.message})
        case ErrorBody.JSON_API:
            entry = {
                "status": str(error.status),
                "title": _CODES[error.status].replace("_", " ").capitalize(),
                "detail": error.message,
            }
            return json_reply(error.status, {"errors": [entry]})
        case ErrorBody.RAILS:
            return json_reply(error.status, {"errors": {error.field: [error.message]}})
        case ErrorBody.HTML:
            return html_reply(error.status, error.message)
        case ErrorBody.EMPTY:
            return Reply(error.status)


def _rooted(traits: Traits, root: Resource, body: dict[str, object]) -> object:
    return {root: body} if traits.root_key else body


def _id(traits: Traits, record_id: int) -> int | str:
    return record_id if traits.ids_as_numbers else str(record_id)


def _positive(traits: Traits, text: str | None, default: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise RefusedError(traits.status_of_bad_input, f"{text} is not a positive number")
    return int(text)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def _time(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
