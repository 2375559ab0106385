"""The JSON documents of the REST face: upstream's resources, and refusals in the envelope."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeVar, assert_never

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.batch import BatchOutcome, batch_outcome_name
from contact_gateway.contacts.contact import Contact, ContactPreview
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    Conflict,
    Created,
    Existing,
    Failure,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    NotTried,
    OutcomeUnknown,
    Previewed,
    RateLimited,
    ReadRefusal,
    Refusal,
    Unauthorized,
    Unavailable,
    outcome_name,
)
from contact_gateway.contacts.source import Page
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.faces.http import envelope
from contact_gateway.http_statuses import status_of

T = TypeVar("T")
_ReadRefusal: TypeAlias = ReadRefusal | NotFound

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# Details with a schema in OpenAPI. Upstream's own of these names may have another shape.
_OWN_DETAILS: Final = frozenset(
    {"problems", "candidates", "existing", "retry_after_seconds", "advertiser_id", "sent_at"}
)


class Document(NamedTuple):
    """A REST response before encoding. `outcome` is its name for logs and metrics."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = _NO_HEADERS
    outcome: str = "OK"


def request_path(path: Iterable[str]) -> str:
    """Return how REST names the part of a request that a problem is in."""
    return "Idempotency-Key" if path == ("idempotency_key",) else ".".join(path)


class Echo(NamedTuple):
    """What a response repeats of its request.

    Attributes:
        request_id: the id of the request.
        ignored_fields: the paths of its unknown fields.
        root_path: the path below which the client reaches the gateway.
        path_of: names the part of the request that a problem is in.
        shows_replay: whether the body says that an earlier call created the contact, as a header
            of a single creation does.
    """

    request_id: str
    ignored_fields: tuple[str, ...] = ()
    root_path: str = ""
    path_of: Callable[[Iterable[str]], str] = request_path
    shows_replay: bool = False


def outcome_document(outcome: BatchedOutcome, echo: Echo) -> Document:
    """Return the response to `createContact` with an outcome."""
    ignored, root_path, name = echo.ignored_fields, echo.root_path, outcome_name(outcome)
    meta: dict[str, object] = {"ignored_fields": ignored} if ignored else {}
    match outcome:
        case Created(contact, replayed):
            headers = _location(contact, root_path)
            if replayed:
                headers["Idempotent-Replayed"] = "true"
                if echo.shows_replay:
                    meta = {"replayed": True, **meta}
            body = {"data": contact_resource(contact), "meta": meta}
            return Document(201, body, headers, name)
        case Existing(contact):
            body = {"data": contact_resource(contact), "meta": {"existed": True, **meta}}
            return Document(200, body, _location(contact, root_path), name)
        case Previewed(preview):
            not_checked = {"not_checked": preview.not_checked} if preview.not_checked else {}
            meta = {"dry_run": True, **not_checked, **meta}
            body = {"data": preview_resource(preview), "meta": meta}
            return Document(200, body, outcome=name)
        case refusal:
            return refusal_document(refusal, echo.request_id, echo.path_of)


def _location(contact: Contact, root_path: str) -> dict[str, str]:
    return {"Location": f"{root_path}/api/v1/contacts/{contact.id}"}


def batch_document(
    outcome: BatchOutcome,
    ignored_fields: Sequence[tuple[str, ...]],
    request_id: str,
    ignored_members: Sequence[str] = (),
) -> Document:
    """Return the response to `createContacts`: each outcome as `createContact` responds with it.

    `ignored_fields` are those of each submission, and `ignored_members` those beside them.
    """
    entries = []
    for index, each in enumerate(outcome.outcomes):
        path_of = partial(_entry_path, index)
        ignored = tuple(path_of(path.split(".")) for path in ignored_fields[index])
        echo = Echo(request_id, ignored, path_of=path_of, shows_replay=True)
        document = outcome_document(each, echo)
        entries.append({"index": index, "status": document.status, **document.body})
    meta: dict[str, object] = {
        "created": outcome.created,
        "existed": outcome.existed,
        "refused": outcome.refused,
        **({"ignored_fields": ignored_members} if ignored_members else {}),
    }
    name = batch_outcome_name(outcome)
    return Document(200, {"data": entries, "meta": meta}, outcome=name)


def _entry_path(index: int, path: Iterable[str]) -> str:
    """Return how REST names the part of a batch that a problem of a submission is in.

    The fields of a contact and its idempotency key are side by side.
    """
    names = (name for name in path if name != "contact")
    return ".".join(("contacts", str(index), *names))


def refusal_document(
    refusal: Refusal | Failure,
    request_id: str,
    path_of: Callable[[Iterable[str]], str] = request_path,
) -> Document:
    """Return the response of a refused operation: the status and headers, and the envelope."""
    details: dict[str, object] = {}
    match refusal:
        case RateLimited(seconds) | Unavailable(_, seconds):
            details = {"retry_after_seconds": seconds}
        case InvalidInput(problems):
            details = {
                "problems": [
                    {"path": path_of(path), "code": code, "message": message}
                    for path, code, message in problems
                ]
            }
        case NotFound(candidates=candidates):
            if candidates:
                details = {"candidates": [advertiser_resource(record) for record in candidates]}
        case Conflict(existing):
            details = {} if existing is None else {"existing": contact_resource(existing)}
        case OutcomeUnknown(_, seconds, advertiser_id, sent_at):
            details = {
                "retry_after_seconds": seconds,
                "advertiser_id": advertiser_id,
                "sent_at": timestamp(sent_at),
            }
        case Unauthorized() | Forbidden() | IdempotencyKeyReused() | NotTried():
            pass
        case _:
            assert_never(refusal)
    headers: dict[str, str] = {}
    if isinstance(refusal, Unauthorized):
        headers = {"WWW-Authenticate": 'Bearer realm="contact-gateway"'}
    if "retry_after_seconds" in details:
        headers = {"Retry-After": str(details["retry_after_seconds"])}
    upstream_details = {
        name: value for name, value in refusal.details.items() if name not in _OWN_DETAILS
    }
    body = envelope(refusal.code, refusal.message, request_id, upstream_details | details)
    return Document(status_of(refusal.code), body, headers, refusal.code)


def read_refusal_document(refusal: _ReadRefusal, request_id: str) -> Document:
    """Return the response of a refused read: its parameters have the names that were sent."""
    return refusal_document(refusal, request_id, ".".join)


def contact_resource(contact: Contact) -> dict[str, object]:
    """Return upstream's resource of a contact."""
    (
        contact_id,
        advertiser_id,
        email,
        name,
        given_name,
        family_name,
        phone,
        job_title,
        source,
        status,
        linkedin_profile_url,
        advertiser_name,
        created_at,
        updated_at,
    ) = contact
    return {
        "id": str(contact_id),
        "type": "contact",
        "attributes": {
            "advertiser_id": advertiser_id,
            "advertiser_name": advertiser_name,
            "email": email,
            "name": name,
            "given_name": given_name,
            "family_name": family_name,
            "phone": phone,
            "job_title": job_title,
            "source": source,
            "status": status,
            "linkedin_profile_url": linkedin_profile_url,
            "created_at": created_at,
            "updated_at": updated_at,
        },
        "relationships": {"advertiser": {"data": {"type": "advertiser", "id": str(advertiser_id)}}},
    }


def preview_resource(preview: ContactPreview) -> dict[str, object]:
    """Return upstream's resource of a preview. Its id and times are null."""
    contact = Contact(0, *preview.details, preview.advertiser_name, None, None)
    return {**contact_resource(contact), "id": None}


def advertiser_resource(advertiser: Advertiser) -> dict[str, object]:
    """Return upstream's resource of an advertiser."""
    return {
        "id": str(advertiser.id),
        "type": "advertiser",
        "attributes": {
            "name": advertiser.name,
            "display_name": advertiser.display_name,
            "slug": advertiser.slug,
            "domain": advertiser.domain,
            "network_name": advertiser.network_name,
            "publisher_name": advertiser.publisher_name,
            "status": advertiser.status,
            "hienergy_id": None if advertiser.hienergy_id is None else str(advertiser.hienergy_id),
        },
    }


def record_document(
    found: T | _ReadRefusal, resource: Callable[[T], dict[str, object]], request_id: str
) -> Document:
    """Return the response to the read of one record."""
    if isinstance(found, _ReadRefusal):
        return read_refusal_document(found, request_id)
    return Document(200, {"data": resource(found)})


def page_document(
    page: Page[T] | _ReadRefusal, resource: Callable[[T], dict[str, object]], request_id: str
) -> Document:
    """Return the response to the read of a page of a list."""
    if not isinstance(page, Page):
        return read_refusal_document(page, request_id)
    current = page.request.number
    meta: dict[str, object] = {
        "current_page": current,
        "next_page": current + 1 if page.has_more else None,
        "per_page": page.request.size,
        "has_more": page.has_more,
    }
    if page.skipped:
        meta["skipped"] = page.skipped
    return Document(200, {"data": [resource(item) for item in page.items], "meta": meta})
