"""The OpenAPI 3.1 document of the REST API, built from the outcomes and the described fields."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Final, get_args

from contact_gateway.contacts.outcomes import BATCH_CODES, ErrorCode, ReadRefusal
from contact_gateway.contacts.source import OWN_FILTERS, KnownFilters
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.error_schemas import (
    ERROR_SCHEMAS,
    READ_MEANINGS,
    Code,
    by_status,
    document_name,
)
from contact_gateway.faces.rest.examples import BATCH, EXAMPLES, READ_REFUSALS, SUBMISSION
from contact_gateway.faces.rest.json_schema import Json, ref
from contact_gateway.faces.rest.parameters import PARAMETERS
from contact_gateway.faces.rest.resource_schemas import RESOURCE_SCHEMAS

# Of a read, and of a whole batch.
_READ_REFUSALS: Final[tuple[ErrorCode, ...]] = tuple(
    refusal.code for refusal in get_args(ReadRefusal)
)
_FAULTS: Final = (
    TransportCode.BAD_REQUEST,
    TransportCode.INTERNAL_ERROR,
    TransportCode.SERVICE_UNAVAILABLE,
)
_BODY_ERRORS: Final = (
    TransportCode.REQUEST_TIMEOUT,
    TransportCode.PAYLOAD_TOO_LARGE,
    TransportCode.UNSUPPORTED_MEDIA_TYPE,
)
_RATE_LIMIT_HEADERS: Final = (
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit-Policy",
    "RateLimit",
)
_HEADERS_BY_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: (*_RATE_LIMIT_HEADERS, "Retry-After"),
    500: (),
    503: ("Retry-After",),
    504: (*_RATE_LIMIT_HEADERS, "Retry-After"),
}
_PAGING: Final = ("page", "per_page", "limit")
_OF_A_RECORD: Final = frozenset({"id", "id_or_slug"})
_OPENAPI: Final = "3.1.0"
_REFERENCE: Final = re.compile(r'"#/components/(\w+)/([^"]+)"')
_ORDER: Final = "Newest first; in front of HiEnergy, in its order."


def _header(schema_type: str, description: str) -> dict[str, object]:
    return {"description": description, "schema": {"type": schema_type}}


_HEADERS: Final = {
    "X-Request-Id": _header(
        "string", "The id of the request: the one sent, if well-formed, or a new one."
    ),
    "X-RateLimit-Limit": _header("integer", "Operations per hour for this API key."),
    "X-RateLimit-Remaining": _header("integer", "Operations left in this hour."),
    "X-RateLimit-Reset": _header("integer", "When the limit resets, in seconds of Unix time."),
    "RateLimit-Policy": _header(
        "string", "The limit as a structured field: operations (`q`) in seconds (`w`)."
    ),
    "RateLimit": _header(
        "string", "What is left as a structured field: operations (`r`) for seconds (`t`)."
    ),
    "Retry-After": _header("integer", "Seconds to wait before a retry."),
    "WWW-Authenticate": _header("string", "The authentication scheme."),
    "Location": _header("string", "The path of the contact."),
    "Idempotent-Replayed": _header("string", "`true` if an earlier call created the contact."),
}


def _response(
    description: str, headers: Iterable[str], schema: Json, examples: Json
) -> dict[str, object]:
    return {
        "description": description,
        "headers": {name: ref("headers", name) for name in ("X-Request-Id", *headers)},
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _success(description: str, *schemas: str, headers: Sequence[str] = ()) -> dict[str, object]:
    """Return a response with a document of one of the schemas, of which each has an example."""
    refs = [ref("schemas", schema) for schema in schemas]
    is_one = len(refs) == 1
    return _response(
        description,
        (*_RATE_LIMIT_HEADERS, *headers),
        refs[0] if is_one else {"anyOf": refs},
        {"default" if is_one else schema: ref("examples", schema) for schema in schemas},
    )


def _errors(codes: Iterable[Code], *, of_read: bool = False) -> dict[str, object]:
    """Return the error responses of an operation. `of_read` says whether it is a read."""
    meanings = READ_MEANINGS if of_read else {}
    examples: Mapping[str, str] = (
        {code: f"READ_{code}" for code in READ_REFUSALS} if of_read else {}
    )
    return {
        str(status): _response(
            " ".join(f"`{code}`: {meanings.get(code, code.meaning)}" for code in of_status),
            _HEADERS_BY_STATUS.get(status, _RATE_LIMIT_HEADERS),
            ref("schemas", document_name(of_status)),
            {str(code): ref("examples", examples.get(code, code)) for code in of_status},
        )
        for status, of_status in by_status(codes).items()
    }


def _filters(known: frozenset[str]) -> tuple[str, ...]:
    """Return the parameters of a list's filters, in the order of the document."""
    return tuple(name for name in PARAMETERS if name in known)


def _read(
    operation_id: str, summary: str, description: str, schema: str, *parameters: str
) -> dict[str, object]:
    """Return the read of a record or, if its document is a page, of a list."""
    is_list = schema.endswith("Page")
    kind = schema.removesuffix("Page" if is_list else "Document")
    codes: tuple[Code, ...] = (*_READ_REFUSALS, *_FAULTS)
    if not _OF_A_RECORD.isdisjoint(parameters):
        codes += (ErrorCode.NOT_FOUND,)
    if is_list:
        codes += (TransportCode.SEARCH_TIMEOUT,)
        parameters += _PAGING
    success = f"A page of {kind.lower()}s." if is_list else f"The {kind.lower()}."
    return {
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "tags": [f"{kind}s"],
        "parameters": [ref("parameters", name) for name in parameters],
        "responses": {"200": _success(success, schema), **_errors(codes, of_read=True)},
    }


def _submission(schema: str, example: Json) -> dict[str, object]:
    """Return what all operations that create contacts have: parameters and a body."""
    # Not the query parameter `idempotency_key`: generators give it and the header one name.
    names = ("dry_run", "on_conflict", "idempotency_key")
    return {
        "tags": ["Contacts"],
        "parameters": [ref("parameters", name) for name in names],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": ref("schemas", schema),
                    "examples": {"default": {"value": example}},
                }
            },
        },
    }


_CREATE_CONTACT: Final = {
    "description": (
        "Creates a contact on the HiEnergy record of the given advertiser. Admins only. The "
        "advertiser must resolve to a HiEnergy advertiser."
    ),
    **_submission("CreateContactSubmission", SUBMISSION),
    "responses": {
        "200": _success(
            "A dry run: the contact that would be created. Or, with `on_conflict=return_existing`, "
            "the existing contact, and `meta.existed`.",
            "ContactPreviewDocument",
            "ExistingContactDocument",
        ),
        "201": _success(
            "The contact, created now or by an earlier call with the same idempotency key.",
            "ContactDocument",
            headers=("Location", "Idempotent-Replayed"),
        ),
        **_errors(
            (*(code for code in ErrorCode if code not in BATCH_CODES), *_BODY_ERRORS, *_FAULTS)
        ),
    },
}
_CREATE_CONTACTS: Final = {
    "operationId": "createContacts",
    "summary": "Create many contacts",
    "description": (
        "Creates each contact as `createContact` does, with an outcome for each, in order. Each "
        "counts as one operation against the rate limit; those beyond it are refused one by one. "
        "A dry run does not compare the contacts with each other. An idempotency key of the whole "
        "request makes a retry safe for contacts without a key of their own."
    ),
    **_submission("CreateContactsSubmission", BATCH),
    "responses": {
        "200": _success("The outcome of each contact.", "BatchDocument"),
        **_errors((*_READ_REFUSALS, *_BODY_ERRORS, *_FAULTS)),
    },
}


def _paths(filters: KnownFilters) -> dict[str, object]:
    """Return the operations. Their lists have the filters that the source of truth knows."""
    return {
        "/contacts": {
            "post": {
                "operationId": "createContact",
                "summary": "Create a contact",
                **_CREATE_CONTACT,
            },
            "get": _read(
                "listContacts", "List contacts", _ORDER, "ContactPage", *_filters(filters.contacts)
            ),
        },
        "/contacts/add": {
            "post": {
                "operationId": "createContactAlias",
                "summary": "Create a contact (HiEnergy's other path)",
                **_CREATE_CONTACT,
            }
        },
        "/contacts/batch": {"post": _CREATE_CONTACTS},
        "/contacts/{id}": {
            "get": _read(
                "getContact",
                "Read a contact",
                "Returns one contact, by its id.",
                "ContactDocument",
                "id",
            )
        },
        "/advertisers": {
            "get": _read(
                "listAdvertisers",
                "List advertisers",
                _ORDER,
                "AdvertiserPage",
                *_filters(filters.advertisers),
            )
        },
        "/advertisers/search_by_domain": {
            "get": _read(
                "searchAdvertisersByDomain",
                "Find advertisers by a domain or a URL",
                f"`url` is another name for `domain`. {_ORDER}",
                "AdvertiserPage",
                "domain_or_url",
            )
        },
        "/advertisers/{id}": {
            "get": _read(
                "getAdvertiser",
                "Read an advertiser",
                "Returns one record of a brand, by its id or slug.",
                "AdvertiserDocument",
                "id_or_slug",
            )
        },
        "/advertisers/{id}/contacts": {
            "get": _read(
                "listContactsOfAdvertiser",
                "List the contacts of a brand, by any of its records",
                _ORDER,
                "ContactPage",
                "id_or_slug",
                *_filters(filters.contacts - {"advertiser_id"}),
            )
        },
        "/schema": {
            "get": {
                "operationId": "getSchema",
                "summary": "Read this document",
                "description": "Returns the OpenAPI document of this API. Needs no API key.",
                "tags": ["Schema"],
                "security": [],
                "responses": {
                    "200": _response(
                        "The OpenAPI document.",
                        (),
                        {"type": "object"},
                        {"default": {"value": {"openapi": _OPENAPI}}},
                    ),
                    **_errors((TransportCode.BAD_REQUEST, TransportCode.INTERNAL_ERROR)),
                },
            }
        },
    }


def _used(paths: Json, components: Mapping[str, Json]) -> set[tuple[str, str]]:
    """Return the kinds and names of the components that the operations refer to."""
    used: set[tuple[str, str]] = set()
    parts: list[object] = [paths]
    for part in parts:
        for kind, name in _REFERENCE.findall(json.dumps(part)):
            if (kind, name) not in used:
                used.add((kind, name))
                parts.append(components[kind][name])
    return used


@cache
def openapi_document(filters: KnownFilters = OWN_FILTERS) -> dict[str, object]:
    """Return the document as JSON values, for a source of truth that knows these filters."""
    paths = _paths(filters)
    components: Mapping[str, Json] = {
        "parameters": PARAMETERS,
        "headers": _HEADERS,
        "schemas": {**RESOURCE_SCHEMAS, **ERROR_SCHEMAS},
        "examples": EXAMPLES,
    }
    used = _used(paths, components)
    return {
        "openapi": _OPENAPI,
        "info": {
            "title": "contact-gateway",
            "version": version("contact-gateway"),
            "summary": "HiEnergy's contacts, with typed errors.",
            "description": (
                "The REST API of the gateway, with the resources of HiEnergy's REST API. The "
                "GraphQL API at `/graphql` applies the same rules in the same order."
            ),
            "contact": {"name": "The contact-gateway maintainers"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1", "description": "Below the address of the gateway."}],
        "security": [{"apiKey": []}, {"bearer": []}],
        "tags": [
            {"name": "Contacts", "description": "Contacts of brands, on their HiEnergy records."},
            {"name": "Advertisers", "description": "Records of brands."},
            {"name": "Schema", "description": "The description of this API."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            **{
                kind: {name: component for name, component in named.items() if (kind, name) in used}
                for kind, named in components.items()
            },
        },
    }
