"""The OpenAPI 3.1 document of the REST face, made from the outcomes and the fields' description."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Final

from contact_gateway.contacts.advertiser import FIELD_DESCRIPTIONS
from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA, ContactDetails
from contact_gateway.contacts.fields import MAX_TEXT_LENGTH, PRINTABLE_PATTERN
from contact_gateway.contacts.outcomes import ErrorCode, meaning_of
from contact_gateway.contacts.problems import PROBLEM_MEANINGS, ProblemCode
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE, MAX_PAGE, MAX_PAGE_SIZE
from contact_gateway.faces.http import TRANSPORT_STATUSES, TransportCode
from contact_gateway.http_statuses import status_of

_Json = Mapping[str, object]

_TRANSPORT_MEANINGS: Final[Mapping[TransportCode, str]] = {
    TransportCode.BAD_REQUEST: "The body is not valid JSON.",
    TransportCode.NOT_FOUND: "There is no such route.",
    TransportCode.METHOD_NOT_ALLOWED: "The route does not take this method; see `Allow`.",
    TransportCode.NOT_ACCEPTABLE: "No acceptable representation can be given.",
    TransportCode.REQUEST_TIMEOUT: "The body did not arrive in time.",
    TransportCode.PAYLOAD_TOO_LARGE: "The body is too large.",
    TransportCode.UNSUPPORTED_MEDIA_TYPE: "The body is not `application/json` in UTF-8.",
    TransportCode.INTERNAL_ERROR: "A fault of the gateway.",
    TransportCode.SERVICE_UNAVAILABLE: "The store does not answer, or too many wait; retry.",
}
_READ_REFUSALS: Final = (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED)
_READ_MEANINGS: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.FORBIDDEN: "In front of HiEnergy: the API key may not read this there."
}
_READ_FAULTS: Final = (TransportCode.INTERNAL_ERROR, TransportCode.SERVICE_UNAVAILABLE)
_RATE_LIMIT_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_HEADERS_BY_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: (*_RATE_LIMIT_HEADERS, "Retry-After"),
    500: (),
    503: ("Retry-After",),
}
_ADVERTISER_TYPES: Final[Mapping[str, object]] = {
    "name": "string",
    "network_name": "string",
    "hienergy_id": ["integer", "null"],
}
_MINIMAL_SUBMISSION: Final = ("advertiser_id", "email")


@cache
def openapi_document() -> dict[str, object]:
    """Return the document, as JSON values."""
    creation = _creation("createContact")
    alias = _creation("createContactAlias") | {"summary": "Create a contact (upstream's alias)"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "contact-gateway",
            "version": version("contact-gateway"),
            "summary": "HiEnergy's contacts, with typed answers.",
            "description": (
                "The REST face of the gateway, in upstream's shapes. The GraphQL face at "
                "`/graphql` applies the same rules in the same order."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"apiKey": []}, {"bearer": []}],
        "tags": [
            {"name": "Contacts", "description": "The people of brands, on their HiEnergy records."},
            {"name": "Advertisers", "description": "The records of brands."},
            {"name": "Schema", "description": "What describes this API."},
        ],
        "paths": {
            "/contacts": {
                "post": creation,
                "get": _list(
                    "listContacts",
                    "Contacts",
                    "ContactPage",
                    ("q", "email", "advertiser_id", "advertiser_name", "domain"),
                ),
            },
            "/contacts/add": {"post": alias},
            "/contacts/{id}": {"get": _record("getContact", "Contacts", "ContactDocument")},
            "/advertisers": {
                "get": _list(
                    "listAdvertisers",
                    "Advertisers",
                    "AdvertiserPage",
                    ("q", "domain", "hienergy_id"),
                )
            },
            "/advertisers/{id}": {
                "get": _record("getAdvertiser", "Advertisers", "AdvertiserDocument", "id_or_slug")
            },
            "/advertisers/{id}/contacts": {"get": _contacts_of_advertiser()},
            "/schema": {
                "get": {
                    "operationId": "getSchema",
                    "summary": "This document",
                    "tags": ["Schema"],
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "The OpenAPI document.",
                            "headers": _headers(),
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        },
                        **_errors((), (TransportCode.INTERNAL_ERROR,)),
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "parameters": _parameters(),
            "headers": _header_components(),
            "schemas": _schemas(),
        },
    }


def _creation(operation_id: str) -> dict[str, object]:
    return {
        "operationId": operation_id,
        "summary": "Create a contact",
        "description": (
            "Creates a contact for an advertiser. Admins only. The submitted advertiser must "
            "resolve to a HiEnergy advertiser, and the contact is created only on that record."
        ),
        "tags": ["Contacts"],
        "parameters": [_ref("parameters", "dry_run"), _ref("parameters", "idempotency_key")],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("schemas", "CreateContactSubmission")}},
        },
        "responses": {
            "200": _success("A dry run: the contact as it would be.", "ContactPreviewDocument"),
            "201": _success(
                "The contact is created, or was by an earlier call with the idempotency key.",
                "ContactDocument",
                "Location",
                "Idempotent-Replayed",
            ),
            **_errors(
                tuple(ErrorCode),
                (
                    TransportCode.BAD_REQUEST,
                    TransportCode.REQUEST_TIMEOUT,
                    TransportCode.PAYLOAD_TOO_LARGE,
                    TransportCode.UNSUPPORTED_MEDIA_TYPE,
                    *_READ_FAULTS,
                ),
            ),
        },
    }


def _list(operation_id: str, tag: str, page: str, filters: Iterable[str]) -> dict[str, object]:
    names = (*filters, "page", "per_page", "limit")
    return {
        "operationId": operation_id,
        "summary": f"List {tag.lower()}, newest first",
        "tags": [tag],
        "parameters": [_ref("parameters", name) for name in names],
        "responses": {
            "200": _success("A page of the list.", page),
            **_errors((*_READ_REFUSALS, ErrorCode.INVALID_INPUT), _READ_FAULTS, _READ_MEANINGS),
        },
    }


def _record(operation_id: str, tag: str, document: str, name: str = "id") -> dict[str, object]:
    return {
        "operationId": operation_id,
        "summary": f"Read one of the {tag.lower()}",
        "tags": [tag],
        "parameters": [_ref("parameters", name)],
        "responses": {
            "200": _success("The record.", document),
            **_errors((*_READ_REFUSALS, ErrorCode.NOT_FOUND), _READ_FAULTS, _READ_MEANINGS),
        },
    }


def _contacts_of_advertiser() -> dict[str, object]:
    filters = ("q", "email", "advertiser_name", "domain")
    operation = _list("listContactsOfAdvertiser", "Contacts", "ContactPage", filters)
    parameters = operation["parameters"]
    responses = operation["responses"]
    if not isinstance(parameters, list) or not isinstance(responses, dict):
        raise TypeError("a list operation has parameters and responses")
    return operation | {
        "summary": "List the contacts of a brand, by any of its records",
        "parameters": [_ref("parameters", "id_or_slug"), *parameters],
        "responses": responses | _errors((ErrorCode.NOT_FOUND,), ()),
    }


def _success(description: str, schema: str, *headers: str) -> dict[str, object]:
    return {
        "description": description,
        "headers": _headers(*_RATE_LIMIT_HEADERS, *headers),
        "content": {"application/json": {"schema": _ref("schemas", schema)}},
    }


def _errors(
    refusals: Iterable[ErrorCode],
    faults: Iterable[TransportCode],
    special: Mapping[ErrorCode, str] = MappingProxyType({}),
) -> dict[str, dict[str, object]]:
    """Describe the answers of some refusals and faults.

    Args:
        refusals: the outcomes that are refusals.
        faults: what may happen beside the rules.
        special: what a refusal means here, where that is not what it means for a creation.
    """
    meanings: dict[int, list[str]] = {}
    for code in ErrorCode:
        if code in refusals:
            meanings.setdefault(status_of(code), []).append(
                f"`{code}`: {special.get(code) or meaning_of(code)}"
            )
    for fault in faults:
        meanings.setdefault(TRANSPORT_STATUSES[fault], []).append(
            f"`{fault}`: {_TRANSPORT_MEANINGS[fault]}"
        )
    return {
        str(status): {
            "description": " ".join(sentences),
            "headers": _headers(*_HEADERS_BY_STATUS.get(status, _RATE_LIMIT_HEADERS)),
            "content": {"application/json": {"schema": _ref("schemas", "Error")}},
        }
        for status, sentences in sorted(meanings.items())
    }


def _headers(*names: str) -> dict[str, object]:
    return {name: _ref("headers", name) for name in ("X-Request-Id", *names)}


def _ref(kind: str, name: str) -> dict[str, object]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _parameters() -> dict[str, object]:
    size = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE}
    page = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1}
    text = {"type": "string", "maxLength": MAX_TEXT_LENGTH, "pattern": PRINTABLE_PATTERN}
    # As in a submission: a number, or the string that every answer has.
    an_id = {"anyOf": NEW_CONTACT_JSON_SCHEMA["properties"]["advertiser_id"]["anyOf"]}
    return {
        "id": {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The record's id.",
            "schema": {"type": "string"},
        },
        "id_or_slug": {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The record's id, or its slug.",
            "schema": {"type": "string"},
        },
        "dry_run": {
            "name": "dry_run",
            "in": "query",
            "description": "Create nothing.",
            "schema": {"type": "boolean", "default": False},
        },
        "idempotency_key": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": (
                "Makes the submission safe to repeat: for 24 hours at least, the same key with "
                "the same input returns the contact that the first call created."
            ),
            "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
        },
        "q": _in_query("q", text, "Text to look for, anywhere, in any case."),
        "email": _in_query("email", text, "A whole e-mail address, in any case."),
        "advertiser_id": _in_query("advertiser_id", an_id, "The id of any of a brand's records."),
        "advertiser_name": _in_query("advertiser_name", text, "Text of the advertiser's names."),
        "hienergy_id": _in_query(
            "hienergy_id", an_id, "A brand's HiEnergy record: all its records."
        ),
        "domain": _in_query("domain", text, "The advertiser's whole domain."),
        "page": _in_query("page", page, "Which page; the first is 1."),
        "per_page": _in_query("per_page", size, "How many records a page has."),
        "limit": _in_query("limit", size, "Another name of `per_page`, which wins over it."),
    }


def _in_query(name: str, schema: _Json, description: str) -> dict[str, object]:
    """Describe a parameter of a read, which is as good as not given where it is empty."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": True,
        "schema": schema,
    }


def _header_components() -> dict[str, object]:
    text, number = {"type": "string"}, {"type": "integer"}
    described: dict[str, tuple[_Json, str]] = {
        "X-Request-Id": (text, "The request's id: the caller's, if well-formed, or a new one."),
        "X-RateLimit-Limit": (number, "Operations the key may do in an hour."),
        "X-RateLimit-Remaining": (number, "Operations left in this hour."),
        "X-RateLimit-Reset": (number, "When the budget is full again, in seconds of Unix time."),
        "Retry-After": (number, "Seconds after which to try again."),
        "WWW-Authenticate": (text, "How to present a credential."),
        "Location": (text, "The path of the contact."),
        "Idempotent-Replayed": (text, "`true` where an earlier call created the contact."),
    }
    return {
        name: {"description": description, "schema": schema}
        for name, (schema, description) in described.items()
    }


def _schemas() -> dict[str, object]:
    fields = NEW_CONTACT_JSON_SCHEMA["properties"]
    details: dict[str, object] = {
        name: {"type": ["string", "null"], "description": fields[name]["description"]}
        for name in ContactDetails._fields
        if name not in _MINIMAL_SUBMISSION
    }
    an_id = {"type": "integer", "description": "The id of the HiEnergy advertiser that owns it."}
    attributes = {
        "advertiser_id": an_id,
        "advertiser_name": {
            "type": ["string", "null"],
            "description": "The name to show of the advertiser that owns it.",
        },
        "email": {"type": "string", "description": fields["email"]["description"]},
        **details,
    }
    moment = {"type": "string", "format": "date-time"}
    stored = attributes | {"created_at": moment, "updated_at": moment}
    unstored = attributes | {"created_at": {"type": "null"}, "updated_at": {"type": "null"}}
    text = {"type": "string"}
    advertiser = {
        name: {"type": _ADVERTISER_TYPES.get(name, ["string", "null"]), "description": description}
        for name, description in FIELD_DESCRIPTIONS.items()
        if name != "id"
    }
    return {
        "NewContact": {
            **_without("title", NEW_CONTACT_JSON_SCHEMA),
            # That one is null unless given: some generators of clients require what has a default.
            "properties": {name: _without("default", field) for name, field in fields.items()},
        },
        "CreateContactSubmission": _object({"contact": _ref("schemas", "NewContact")}),
        "Contact": _resource("contact", text, stored),
        "ContactPreview": _resource("contact", {"type": "null"}, unstored),
        "Advertiser": _resource("advertiser", text, advertiser),
        "Meta": {
            "type": "object",
            "properties": {
                "ignored_fields": {
                    "type": "array",
                    "items": text,
                    "description": "What was sent and is not known.",
                },
                "dry_run": {"type": "boolean"},
            },
        },
        "ContactDocument": _document("Contact"),
        "ContactPreviewDocument": _document("ContactPreview"),
        "AdvertiserDocument": _document("Advertiser"),
        "PageMeta": _object(
            {
                "current_page": {"type": "integer"},
                "next_page": {"type": ["integer", "null"]},
                "per_page": {"type": "integer"},
                "has_more": {"type": "boolean"},
            }
        ),
        "ContactPage": _page("Contact"),
        "AdvertiserPage": _page("Advertiser"),
        "Problem": _object(
            {
                "path": {"type": "string", "examples": ["contact.email"]},
                "code": {
                    "type": "string",
                    "enum": list(ProblemCode),
                    "description": " ".join(
                        f"`{code}`: {meaning}" for code, meaning in PROBLEM_MEANINGS.items()
                    ),
                },
                "message": {"type": "string"},
            }
        ),
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": {
                            "type": "string",
                            "enum": list(dict.fromkeys((*ErrorCode, *TransportCode))),
                        },
                        "message": text,
                        "timestamp": moment,
                        "request_id": text,
                        "details": {
                            "type": "object",
                            "properties": {
                                "problems": {"type": "array", "items": _ref("schemas", "Problem")},
                                "existing": _ref("schemas", "Contact"),
                                "retry_after_seconds": {"type": "integer"},
                            },
                        },
                    }
                )
            }
        ),
    }


def _without(left_out: str, schema: _Json) -> dict[str, object]:
    return {key: value for key, value in schema.items() if key != left_out}


def _object(properties: _Json) -> dict[str, object]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _resource(kind: str, an_id: _Json, attributes: _Json) -> dict[str, object]:
    return _object(
        {"id": an_id, "type": {"type": "string", "const": kind}, "attributes": _object(attributes)}
    )


def _document(schema: str) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"data": _ref("schemas", schema), "meta": _ref("schemas", "Meta")},
        "required": ["data"],
    }


def _page(schema: str) -> dict[str, object]:
    items = {"type": "array", "items": _ref("schemas", schema)}
    return _object({"data": items, "meta": _ref("schemas", "PageMeta")})
