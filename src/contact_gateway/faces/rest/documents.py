"""The JSON documents of the REST face: upstream's resources, and refusals in the envelope."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar, assert_never

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactDetails, ContactPreview
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Previewed,
    RateLimited,
    Refusal,
    Unauthorized,
)
from contact_gateway.contacts.source import Page
from contact_gateway.faces.http import envelope, timestamp
from contact_gateway.http_statuses import status_of

T = TypeVar("T")

# Details with a schema in OpenAPI. Upstream's own of these names may have another shape.
_OWN_DETAILS: Final = frozenset(
    {"problems", "candidates", "existing", "retry_after_seconds", "advertiser_id", "sent_at"}
)


@dataclass(frozen=True, slots=True)
class Document:
    """A REST response before encoding."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def outcome_document(
    outcome: CreateContactOutcome,
    request_id: str,
    ignored_fields: tuple[str, ...],
    root_path: str,
) -> Document:
    """Return the response to `createContact` with an outcome."""
    meta: dict[str, object] = {"ignored_fields": ignored_fields} if ignored_fields else {}
    match outcome:
        case Created(contact, replayed):
            headers = {"Location": f"{root_path}/api/v1/contacts/{contact.id}"}
            if replayed:
                headers["Idempotent-Replayed"] = "true"
            return Document(201, {"data": contact_resource(contact), "meta": meta}, headers)
        case Previewed(preview):
            not_checked = {"not_checked": preview.not_checked} if preview.not_checked else {}
            meta = {"dry_run": True, **not_checked, **meta}
            return Document(200, {"data": preview_resource(preview), "meta": meta})
        case refusal:
            return refusal_document(refusal, request_id)


def _path(path: Iterable[str]) -> str:
    """Return how REST names the part of a submission that a problem is in."""
    return "Idempotency-Key" if path == ("idempotency_key",) else ".".join(path)


def refusal_document(
    refusal: Refusal,
    request_id: str,
    path_of: Callable[[Iterable[str]], str] = _path,
    *,
    at: datetime | None = None,
) -> Document:
    """Return the response of a refused operation: the status and headers, and the envelope.

    `path_of` names the part of a submission that a problem is in. `at` is when it was refused, now
    if it is None.
    """
    headers: dict[str, str] = {}
    details: dict[str, object] = {}
    match refusal:
        case Unauthorized():
            headers = {"WWW-Authenticate": 'Bearer realm="contact-gateway"'}
        case Forbidden():
            pass
        case RateLimited(seconds):
            headers = {"Retry-After": str(seconds)}
            details = {"retry_after_seconds": seconds}
        case InvalidInput(problems):
            details = {
                "problems": [
                    {"path": path_of(path), "code": code, "message": message}
                    for path, code, message in problems
                ]
            }
        case IdempotencyKeyReused():
            pass
        case NotFound(candidates=candidates):
            if candidates:
                details = {"candidates": [advertiser_resource(record) for record in candidates]}
        case Conflict(existing):
            details = {} if existing is None else {"existing": contact_resource(existing)}
        case OutcomeUnknown(_, seconds, advertiser_id, sent_at):
            headers = {"Retry-After": str(seconds)}
            details = {
                "retry_after_seconds": seconds,
                "advertiser_id": advertiser_id,
                "sent_at": timestamp(sent_at),
            }
        case _:
            assert_never(refusal)
    upstream_details = {
        name: value for name, value in refusal.details.items() if name not in _OWN_DETAILS
    }
    body = envelope(refusal.code, refusal.message, request_id, upstream_details | details, at=at)
    return Document(status_of(refusal.code), body, headers)


def contact_resource(contact: Contact) -> dict[str, object]:
    """Return upstream's resource of a contact."""
    return _resource(
        str(contact.id),
        contact.details,
        contact.advertiser_name,
        created_at=_timestamp(contact.created_at),
        updated_at=_timestamp(contact.updated_at),
    )


def preview_resource(preview: ContactPreview) -> dict[str, object]:
    """Return upstream's resource of a preview. Its id and times are null."""
    return _resource(
        None, preview.details, preview.advertiser_name, created_at=None, updated_at=None
    )


def _resource(
    an_id: str | None,
    details: ContactDetails[str | None],
    advertiser_name: str | None,
    *,
    created_at: str | None,
    updated_at: str | None,
) -> dict[str, object]:
    (
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
    ) = details
    return {
        "id": an_id,
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


def page_document(page: Page[T], resource: Callable[[T], dict[str, object]]) -> Document:
    """Return the response with a page of a list."""
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


def _timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
