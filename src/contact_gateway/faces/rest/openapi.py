"""The OpenAPI 3.1 document of the REST API, built from the outcomes and the described fields."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Final, get_args

from contact_gateway.contacts.advertiser import FIELD_DESCRIPTIONS
from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA, ContactDetails
from contact_gateway.contacts.fields import MAX_TEXT_LENGTH, PRINTABLE_PATTERN
from contact_gateway.contacts.outcomes import ErrorCode, ReadRefusal
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE, MAX_PAGE, MAX_PAGE_SIZE
from contact_gateway.contacts.source import OWN_FILTERS, KnownFilters
from contact_gateway.contacts.text import BLANK_CLASS
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.error_schemas import (
    ERROR_SCHEMAS,
    READ_MEANINGS,
    Code,
    by_status,
    document_name,
    meaning,
)
from contact_gateway.faces.rest.examples import EXAMPLES, READ_REFUSALS, SUBMISSION
from contact_gateway.faces.rest.json_schema import (
    ID,
    NULLABLE_ID,
    NULLABLE_NUMBER,
    NULLABLE_TEXT,
    NULLABLE_TIME,
    NUMBER,
    TEXT,
    Json,
    object_of,
    ref,
)

_READ_REFUSALS: Final[tuple[ErrorCode, ...]] = tuple(
    refusal.code for refusal in get_args(ReadRefusal)
)
_RECORD_REFUSALS: Final = (*_READ_REFUSALS, ErrorCode.NOT_FOUND)
_FAULTS: Final = (
    TransportCode.BAD_REQUEST,
    TransportCode.INTERNAL_ERROR,
    TransportCode.SERVICE_UNAVAILABLE,
)
_LIST_FAULTS: Final = (*_FAULTS, TransportCode.SEARCH_TIMEOUT)
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
# HiEnergy does not describe all of its filters.
_PASSED_ON: Final = (
    "phone",
    "url",
    "country",
    "vertical",
    "status",
)
_OPENAPI: Final = "3.1.0"
_REFERENCE: Final = re.compile(r'"#/components/(\w+)/([^"]+)"')
_ORDER: Final = "Newest first; in front of HiEnergy, in its order."


def _resource(kind: str, an_id: Json, attributes: Json, **beside: Json) -> dict[str, object]:
    kind_schema = {"type": "string", "const": kind}
    return object_of(
        {"id": an_id, "type": kind_schema, "attributes": object_of(attributes), **beside}
    )


def _document(schema: str) -> dict[str, object]:
    return object_of({"data": ref("schemas", schema)}, meta=ref("schemas", "Meta"))


def _page(schema: str) -> dict[str, object]:
    items = {"type": "array", "items": ref("schemas", schema)}
    return object_of({"data": items, "meta": ref("schemas", "PageMeta")})


def _query(name: str, schema: Json, description: str) -> dict[str, object]:
    """Return a query parameter of a read. An empty one counts as not sent."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": True,
        "schema": schema,
    }


def _header(schema_type: str, description: str) -> dict[str, object]:
    return {"description": description, "schema": {"type": schema_type}}


_ALWAYS_NULL: Final = "Null: nothing is created."
_MAY_BE_NULL: Final = "Null only if HiEnergy does not show it."
_IDEMPOTENCY_KEY: Final = {
    "type": "string",
    "pattern": (
        r"^([\x21\x23-\x7e][\x21-\x7e]{0,254}"
        r'|"([\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}")$'
    ),
}
_FILTER_TEXT: Final = {"type": "string", "maxLength": MAX_TEXT_LENGTH, "pattern": PRINTABLE_PATTERN}
# A number or a string, as in a submission.
_FILTER_ID: Final = {"anyOf": NEW_CONTACT_JSON_SCHEMA["properties"]["advertiser_id"]["anyOf"]}
_SLUG: Final = {
    "type": "string",
    "maxLength": MAX_TEXT_LENGTH,
    "pattern": "^[A-Za-z0-9._~-]*[A-Za-z][A-Za-z0-9._~-]*$",
}
_FILTER_ID_OR_SLUG: Final = {"anyOf": [*_FILTER_ID["anyOf"], _SLUG]}
_PAGE_SIZE: Final = {"type": "integer", "minimum": 1, "default": DEFAULT_PAGE_SIZE}
_CLAMPED: Final = f"Larger numbers than {MAX_PAGE_SIZE} count as {MAX_PAGE_SIZE}."

_PARAMETERS: Final = {
    "id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id of the record.",
        "schema": ID,
    },
    "id_or_slug": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id or the slug of the record.",
        "schema": TEXT,
    },
    "dry_run": {
        "name": "dry_run",
        "in": "query",
        "description": (
            "Change nothing. Applies every rule; in front of HiEnergy, what reads can show. "
            "`dryRun` is accepted too."
        ),
        "schema": {"type": "boolean", "default": False},
    },
    "idempotency_key_in_query": {
        "name": "idempotency_key",
        "in": "query",
        "description": "The header `Idempotency-Key`, for clients that cannot set headers.",
        "schema": _IDEMPOTENCY_KEY,
    },
    "idempotency_key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "Makes retries safe: for at least 24 hours, the same key with the same input returns "
            "what the first call created. In front of HiEnergy, a repeat after a lost answer looks "
            "for the contact and creates no second one. 1 to 255 visible ASCII characters, which "
            'may be in double quotes: `k-1` and `"k-1"` are the same key.'
        ),
        "schema": _IDEMPOTENCY_KEY,
    },
    "q": _query(
        "q", _FILTER_TEXT, "Text anywhere in the record. Case and Unicode form are ignored."
    ),
    "email": _query(
        "email", _FILTER_TEXT, "The complete e-mail address. Case and Unicode form are ignored."
    ),
    "query": _query("query", _FILTER_TEXT, "Another name for `q`."),
    "search": _query("search", _FILTER_TEXT, "Another name for `q`."),
    "advertiser_id": _query(
        "advertiser_id",
        _FILTER_ID_OR_SLUG,
        "Only contacts of this brand, by the id or the slug of any of its records.",
    ),
    "advertiser_name": _query(
        "advertiser_name",
        _FILTER_TEXT,
        "Text in a name of the advertiser. Case and Unicode form are ignored.",
    ),
    "hienergy_id": _query(
        "hienergy_id", _FILTER_ID, "Only records of the brand with this HiEnergy record."
    ),
    "domain": _query(
        "domain",
        _FILTER_TEXT,
        "The complete domain of the advertiser. Case and Unicode form are ignored.",
    ),
    "advertiser_domain": _query("advertiser_domain", _FILTER_TEXT, "Another name for `domain`."),
    "network": _query(
        "network",
        _FILTER_TEXT,
        "The complete name of the affiliate network. Case and Unicode form are ignored.",
    ),
    "domain_or_url": {
        "name": "domain",
        "in": "query",
        "required": True,
        "description": "A domain, or a URL with the domain. `www.` in front is left out.",
        "schema": {
            "type": "string",
            "maxLength": MAX_TEXT_LENGTH,
            "pattern": (
                rf"^{BLANK_CLASS}*[^\x00-\x1f\x7f-\x9f{BLANK_CLASS[1:-1]}][^\x00-\x1f\x7f-\x9f]*$"
            ),
        },
    },
    **{
        name: _query(name, _FILTER_TEXT, f"HiEnergy's filter `{name}`, passed on.")
        for name in _PASSED_ON
    },
    "name": _query("name", _FILTER_TEXT, "Text in a name. Case and Unicode form are ignored."),
    "page": _query(
        "page",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1},
        "The number of the page, from 1.",
    ),
    "per_page": _query("per_page", _PAGE_SIZE, f"Records per page. {_CLAMPED}"),
    "limit": _query("limit", _PAGE_SIZE, "Another name for `per_page`, which takes precedence."),
}

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

_CONTACT_FIELDS: Final = NEW_CONTACT_JSON_SCHEMA["properties"]
_CONTACT_ATTRIBUTES: Final = {
    "advertiser_id": {
        **NUMBER,
        "description": "The id of the HiEnergy advertiser that owns the contact.",
    },
    "advertiser_name": {
        **NULLABLE_TEXT,
        "description": "The display name of the HiEnergy advertiser that owns the contact.",
    },
    "email": {
        **NULLABLE_TEXT,
        "description": f"{_CONTACT_FIELDS['email']['description']} {_MAY_BE_NULL}",
    },
    **{
        name: {**NULLABLE_TEXT, "description": _CONTACT_FIELDS[name]["description"]}
        for name in ContactDetails._fields
        if name not in {"advertiser_id", "email"}
    },
}
_ADVERTISER_TYPES: Final[Mapping[str, Json]] = {
    "name": TEXT,
    "hienergy_id": NULLABLE_ID,
}
_OWNER: Final = object_of(
    {
        "advertiser": object_of(
            {"data": object_of({"type": {"type": "string", "const": "advertiser"}, "id": ID})}
        )
    }
)
_SCHEMAS: Final = {
    "NewContact": {
        "description": "A contact to create.",
        "type": "object",
        # Without titles, which some client generators take for names, and without the default null:
        # some require fields that have a default.
        "properties": {
            name: {key: value for key, value in field.items() if key not in {"default", "title"}}
            for name, field in _CONTACT_FIELDS.items()
        },
        "required": NEW_CONTACT_JSON_SCHEMA["required"],
    },
    "CreateContactSubmission": object_of({"contact": ref("schemas", "NewContact")}),
    "Contact": _resource(
        "contact",
        ID,
        _CONTACT_ATTRIBUTES
        | {
            name: {**NULLABLE_TIME, "description": _MAY_BE_NULL}
            for name in ("created_at", "updated_at")
        },
        relationships=ref("schemas", "ContactRelationships"),
    ),
    # Not the type null: some client generators make it a class, or anything.
    "ContactPreview": _resource(
        "contact",
        {**NULLABLE_ID, "description": _ALWAYS_NULL},
        _CONTACT_ATTRIBUTES
        | {
            name: {**NULLABLE_TIME, "description": _ALWAYS_NULL}
            for name in ("created_at", "updated_at")
        },
        relationships=ref("schemas", "ContactRelationships"),
    ),
    "ContactRelationships": {
        **_OWNER,
        "description": (
            "The HiEnergy advertiser that owns the contact. Its id is a string: JavaScript rounds "
            "the number in `advertiser_id` above 2^53."
        ),
    },
    "Advertiser": _resource(
        "advertiser",
        ID,
        {
            name: {**_ADVERTISER_TYPES.get(name, NULLABLE_TEXT), "description": description}
            for name, description in FIELD_DESCRIPTIONS.items()
            if name != "id"
        },
    ),
    "Meta": {
        "type": "object",
        "properties": {
            "ignored_fields": {
                "type": "array",
                "items": TEXT,
                "description": "The unknown fields of the request, which were ignored.",
            },
            "dry_run": {"type": "boolean"},
            "not_checked": {
                "type": "array",
                "items": TEXT,
                "description": "In front of HiEnergy: what a dry run cannot check.",
            },
        },
    },
    "ContactDocument": _document("Contact"),
    "ContactPreviewDocument": _document("ContactPreview"),
    "AdvertiserDocument": _document("Advertiser"),
    "PageMeta": {
        "type": "object",
        "properties": {
            "current_page": NUMBER,
            "next_page": NULLABLE_NUMBER,
            "per_page": NUMBER,
            "has_more": {"type": "boolean"},
            "skipped": {
                "type": "integer",
                "minimum": 1,
                "description": (
                    "How many records of this page are left out, because HiEnergy sends them "
                    "without an id or an owner. Absent if none is."
                ),
            },
        },
        "required": ["current_page", "next_page", "per_page", "has_more"],
    },
    "ContactPage": _page("Contact"),
    "AdvertiserPage": _page("Advertiser"),
    **ERROR_SCHEMAS,
}


def _headers(*names: str) -> dict[str, object]:
    return {name: ref("headers", name) for name in ("X-Request-Id", *names)}


def _success(description: str, schema: str, *headers: str) -> dict[str, object]:
    return {
        "description": description,
        "headers": _headers(*_RATE_LIMIT_HEADERS, *headers),
        "content": {
            "application/json": {
                "schema": ref("schemas", schema),
                "examples": {"default": ref("examples", schema)},
            }
        },
    }


def _errors(codes: Iterable[Code], *, of_read: bool = False) -> dict[str, object]:
    """Return the error responses of an operation. `of_read` says whether it is a read."""
    meanings = READ_MEANINGS if of_read else {}
    return {
        str(status): {
            "description": " ".join(
                f"`{code}`: {meanings.get(code) or meaning(code)}" for code in of_status
            ),
            "headers": _headers(*_HEADERS_BY_STATUS.get(status, _RATE_LIMIT_HEADERS)),
            "content": {
                "application/json": {
                    "schema": ref("schemas", document_name(of_status)),
                    "examples": {
                        str(code): ref(
                            "examples",
                            f"READ_{code}" if of_read and code in READ_REFUSALS else str(code),
                        )
                        for code in of_status
                    },
                }
            },
        }
        for status, of_status in by_status(codes).items()
    }


def _filters(known: frozenset[str]) -> tuple[str, ...]:
    """Return the parameters of a list's filters, in the order of the document."""
    return tuple(name for name in _PARAMETERS if name in known)


def _read(
    description: str, schema: str, refusals: Iterable[ErrorCode], parameters: Iterable[str]
) -> dict[str, object]:
    names = tuple(parameters)
    faults = _LIST_FAULTS if "page" in names else _FAULTS
    return {
        "parameters": [ref("parameters", name) for name in names],
        "responses": {
            "200": _success(description, schema),
            **_errors((*refusals, *faults), of_read=True),
        },
    }


_CREATE_CONTACT: Final = {
    "description": (
        "Creates a contact on the HiEnergy record of the given advertiser. Admins only. The "
        "advertiser must resolve to a HiEnergy advertiser."
    ),
    "tags": ["Contacts"],
    "parameters": [
        ref("parameters", "dry_run"),
        ref("parameters", "idempotency_key"),
        ref("parameters", "idempotency_key_in_query"),
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": ref("schemas", "CreateContactSubmission"),
                "examples": {"default": {"value": SUBMISSION}},
            }
        },
    },
    "responses": {
        "200": _success("A dry run: the contact that would be created.", "ContactPreviewDocument"),
        "201": _success(
            "The contact, created now or by an earlier call with the same idempotency key.",
            "ContactDocument",
            "Location",
            "Idempotent-Replayed",
        ),
        **_errors(
            (
                *ErrorCode,
                TransportCode.REQUEST_TIMEOUT,
                TransportCode.PAYLOAD_TOO_LARGE,
                TransportCode.UNSUPPORTED_MEDIA_TYPE,
                *_FAULTS,
            )
        ),
    },
}


def _paths(filters: KnownFilters) -> dict[str, object]:
    """Return the operations. Their lists have the filters that the source of truth knows."""
    of_contacts = _filters(filters.contacts - {"advertiser_id"})
    return {
        "/contacts": {
            "post": {
                "operationId": "createContact",
                "summary": "Create a contact",
                **_CREATE_CONTACT,
            },
            "get": {
                "operationId": "listContacts",
                "summary": "List contacts",
                "description": _ORDER,
                "tags": ["Contacts"],
                **_read(
                    "A page of contacts.",
                    "ContactPage",
                    _READ_REFUSALS,
                    (*_filters(filters.contacts), *_PAGING),
                ),
            },
        },
        "/contacts/add": {
            "post": {
                "operationId": "createContactAlias",
                "summary": "Create a contact (HiEnergy's other path)",
                **_CREATE_CONTACT,
            }
        },
        "/contacts/{id}": {
            "get": {
                "operationId": "getContact",
                "summary": "Read a contact",
                "description": "Returns one contact, by its id.",
                "tags": ["Contacts"],
                **_read("The contact.", "ContactDocument", _RECORD_REFUSALS, ("id",)),
            }
        },
        "/advertisers": {
            "get": {
                "operationId": "listAdvertisers",
                "summary": "List advertisers",
                "description": _ORDER,
                "tags": ["Advertisers"],
                **_read(
                    "A page of advertisers.",
                    "AdvertiserPage",
                    _READ_REFUSALS,
                    (*_filters(filters.advertisers), *_PAGING),
                ),
            }
        },
        "/advertisers/search_by_domain": {
            "get": {
                "operationId": "searchAdvertisersByDomain",
                "summary": "Find advertisers by a domain or a URL",
                "description": f"`url` is another name for `domain`. {_ORDER}",
                "tags": ["Advertisers"],
                **_read(
                    "A page of advertisers.",
                    "AdvertiserPage",
                    _READ_REFUSALS,
                    ("domain_or_url", *_PAGING),
                ),
            }
        },
        "/advertisers/{id}": {
            "get": {
                "operationId": "getAdvertiser",
                "summary": "Read an advertiser",
                "description": "Returns one record of a brand, by its id or slug.",
                "tags": ["Advertisers"],
                **_read("The advertiser.", "AdvertiserDocument", _RECORD_REFUSALS, ("id_or_slug",)),
            }
        },
        "/advertisers/{id}/contacts": {
            "get": {
                "operationId": "listContactsOfAdvertiser",
                "summary": "List the contacts of a brand, by any of its records",
                "description": _ORDER,
                "tags": ["Contacts"],
                **_read(
                    "A page of contacts.",
                    "ContactPage",
                    _RECORD_REFUSALS,
                    ("id_or_slug", *of_contacts, *_PAGING),
                ),
            }
        },
        "/schema": {
            "get": {
                "operationId": "getSchema",
                "summary": "Read this document",
                "description": "Returns the OpenAPI document of this API. Needs no API key.",
                "tags": ["Schema"],
                "security": [],
                "responses": {
                    "200": {
                        "description": "The OpenAPI document.",
                        "headers": _headers(),
                        "content": {
                            "application/json": {
                                "schema": {"type": "object"},
                                "examples": {"default": {"value": {"openapi": _OPENAPI}}},
                            }
                        },
                    },
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
        "parameters": _PARAMETERS,
        "headers": _HEADERS,
        "schemas": _SCHEMAS,
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
