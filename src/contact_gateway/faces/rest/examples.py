"""The examples of the OpenAPI document, rendered as responses are."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.batch import BatchOutcome
from contact_gateway.contacts.contact import (
    NEW_CONTACT_JSON_SCHEMA,
    Contact,
    ContactDetails,
    ContactPreview,
)
from contact_gateway.contacts.outcomes import (
    Conflict,
    Created,
    ErrorCode,
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
    Refusal,
    Unauthorized,
    Unavailable,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE
from contact_gateway.contacts.source import Page, PageRequest
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.faces.http import TransportCode, envelope, json_body
from contact_gateway.faces.rest.documents import (
    Echo,
    advertiser_resource,
    batch_document,
    contact_resource,
    outcome_document,
    page_document,
    record_document,
    refusal_document,
)
from contact_gateway.faces.rest.error_schemas import READ_MEANINGS
from contact_gateway.faces.rest.json_schema import Json

_NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
_REQUEST_ID: Final = "4f9c0a1be2d34c5f8a6b7d8e9f001122"
_ECHO: Final = Echo(_REQUEST_ID)
_FIRST_PAGE: Final = PageRequest(1, DEFAULT_PAGE_SIZE)

_SUBMITTED: Final = {
    name: field["examples"][0] for name, field in NEW_CONTACT_JSON_SCHEMA["properties"].items()
}
_ADVERTISER: Final = Advertiser(
    id=_SUBMITTED["advertiser_id"],
    name="Northwind Outfitters",
    display_name="Northwind Outfitters",
    slug="northwind-outfitters",
    domain="northwind.example",
    network_name=HIENERGY_NETWORK,
    status="active",
    hienergy_id=_SUBMITTED["advertiser_id"],
)
_DETAILS: Final = ContactDetails[str | None](**_SUBMITTED)
_CONTACT: Final = Contact(42, *_DETAILS, _ADVERTISER.title, timestamp(_NOW), timestamp(_NOW))


def _by_code(*refusals: Refusal | Failure) -> Mapping[ErrorCode, Refusal | Failure]:
    return {refusal.code: refusal for refusal in refusals}


_REFUSALS: Final = _by_code(
    Unauthorized(KeyRefusal.UNKNOWN),
    Forbidden(policy.FORBIDDEN),
    RateLimited(1800),
    InvalidInput((Problem(("contact", "email"), ProblemCode.REQUIRED, "A value is required."),)),
    IdempotencyKeyReused(policy.KEY_REUSED),
    NotFound(policy.NO_HIENERGY_ADVERTISER),
    Conflict(_CONTACT, policy.ADDRESS_IS_TAKEN),
    OutcomeUnknown(policy.STILL_IN_FLIGHT, 30, _DETAILS.advertiser_id, _NOW),
    Unavailable(policy.UNAVAILABLE, 1),
    NotTried(policy.STOPPED_BY_OUTAGE),
)
READ_REFUSALS: Final = _by_code(
    Forbidden(READ_MEANINGS[ErrorCode.FORBIDDEN]),
    InvalidInput((Problem(("foo",), ProblemCode.UNKNOWN_PARAMETER, "Unknown parameter."),)),
    NotFound(READ_MEANINGS[ErrorCode.NOT_FOUND]),
)
"""The refusals that are others for reads than for a creation."""


def _refused(refusal: Refusal | Failure) -> Json:
    return refusal_document(refusal, _REQUEST_ID).body


def _transport_error(code: TransportCode) -> Json:
    is_outage = code.status == HTTPStatus.SERVICE_UNAVAILABLE
    details = {"retry_after_seconds": 1} if is_outage else {}
    return envelope(code, code.meaning, _REQUEST_ID, details)


def _at_one_time(member: dict[str, object]) -> dict[str, object]:
    """Return a member of a response with the time of the examples, if it has its own."""
    return {**member, "timestamp": timestamp(_NOW)} if "timestamp" in member else member


SUBMISSION: Final[Json] = {"contact": _SUBMITTED}
BATCH: Final[Json] = {"contacts": [{**_SUBMITTED, "idempotency_key": "row-1"}]}

EXAMPLES: Final[Mapping[str, Json]] = {
    name: {"value": json.loads(json_body(body), object_hook=_at_one_time)}
    for name, body in {
        "ContactDocument": outcome_document(Created(_CONTACT), _ECHO).body,
        "ExistingContactDocument": outcome_document(Existing(_CONTACT), _ECHO).body,
        "ContactPreviewDocument": outcome_document(
            Previewed(ContactPreview(_DETAILS, _ADVERTISER.title)), _ECHO
        ).body,
        "BatchDocument": batch_document(
            BatchOutcome((Created(_CONTACT), _REFUSALS[ErrorCode.CONFLICT])),
            ((), ()),
            _REQUEST_ID,
        ).body,
        "AdvertiserDocument": record_document(_ADVERTISER, advertiser_resource, _REQUEST_ID).body,
        "ContactPage": page_document(
            Page((_CONTACT,), _FIRST_PAGE, has_more=False), contact_resource, _REQUEST_ID
        ).body,
        "AdvertiserPage": page_document(
            Page((_ADVERTISER,), _FIRST_PAGE, has_more=False), advertiser_resource, _REQUEST_ID
        ).body,
        **{str(code): _transport_error(code) for code in TransportCode},
        **{str(code): _refused(_REFUSALS[code]) for code in ErrorCode},
        **{f"READ_{code}": _refused(refusal) for code, refusal in READ_REFUSALS.items()},
    }.items()
}
"""The examples of responses, by the name of their schema or by the code of the error."""
