"""The submissions and resources of the REST operations in the OpenAPI document, by name."""

from collections.abc import Mapping
from typing import Final

from contact_gateway.contacts.advertiser import FIELD_DESCRIPTIONS
from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA, ContactDetails
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.rest.error_schemas import one_of
from contact_gateway.faces.rest.json_schema import (
    ID,
    IDEMPOTENCY_KEY,
    NULLABLE_ID,
    NULLABLE_NUMBER,
    NULLABLE_TEXT,
    NULLABLE_TIME,
    NUMBER,
    TEXT,
    Json,
    described,
    object_of,
    ref,
)

_ALWAYS_NULL: Final = "Null: nothing is created."
_TEXTS: Final = {"type": "array", "items": TEXT}
_META: Final[Mapping[str, Json]] = {
    "ignored_fields": described(_TEXTS, "The unknown fields of the request, which were ignored."),
    "dry_run": {"type": "boolean"},
    "existed": {
        "type": "boolean",
        "description": "True if the contact already existed, with `on_conflict=return_existing`.",
    },
    "replayed": {
        "type": "boolean",
        "description": (
            "In a batch: true if an earlier request with the idempotency key created the contact."
        ),
    },
    "not_checked": described(_TEXTS, "In front of HiEnergy: what a dry run cannot check."),
}
_MAY_BE_NULL: Final = "Null only if HiEnergy does not show it."


def _resource(kind: str, an_id: Json, attributes: Json, **beside: Json) -> dict[str, object]:
    kind_schema = {"type": "string", "const": kind}
    return object_of(
        {"id": an_id, "type": kind_schema, "attributes": object_of(attributes), **beside}
    )


def _document(schema: str, **meta: Json) -> dict[str, object]:
    """Return the schema of a document. `meta` are members that its `meta` always has."""
    if not meta:
        return object_of({"data": ref("schemas", schema)}, meta=ref("schemas", "Meta"))
    return object_of({"data": ref("schemas", schema), "meta": _meta(meta)})


def _meta(required: Json) -> dict[str, object]:
    """Return the schema of `meta`, of which some members are always there."""
    return object_of(
        required, **{name: each for name, each in _META.items() if name not in required}
    )


_TRUE: Final = {"type": "boolean", "const": True}


def _page(schema: str) -> dict[str, object]:
    items = {"type": "array", "items": ref("schemas", schema)}
    return object_of({"data": items, "meta": ref("schemas", "PageMeta")})


_CONTACT_FIELDS: Final = NEW_CONTACT_JSON_SCHEMA["properties"]
_CONTACT_ATTRIBUTES: Final = {
    "advertiser_id": described(NUMBER, "The id of the HiEnergy advertiser that owns the contact."),
    "advertiser_name": described(
        NULLABLE_TEXT, "The display name of the HiEnergy advertiser that owns the contact."
    ),
    "email": described(NULLABLE_TEXT, f"{_CONTACT_FIELDS['email']['description']} {_MAY_BE_NULL}"),
    **{
        name: described(NULLABLE_TEXT, _CONTACT_FIELDS[name]["description"])
        for name in ContactDetails._fields
        if name not in {"advertiser_id", "email"}
    },
}
_ADVERTISER_TYPES: Final[Mapping[str, Json]] = {"name": TEXT, "hienergy_id": NULLABLE_ID}


def _contact(an_id: Json, when_null: str) -> dict[str, object]:
    """Return the schema of a contact. `when_null` describes its times."""
    time = described(NULLABLE_TIME, when_null)
    return _resource(
        "contact",
        an_id,
        _CONTACT_ATTRIBUTES | {"created_at": time, "updated_at": time},
        relationships=ref("schemas", "ContactRelationships"),
    )


def _entry(**members: Json) -> dict[str, object]:
    """Return the schema of the outcome of one submission of a batch."""
    return object_of(
        {
            "index": described(NUMBER, "The position of the submission, from 0."),
            "status": described(NUMBER, "The status that `createContact` has for this outcome."),
            **members,
        }
    )


# Without titles, which some client generators take for names, and without the default null: some
# require fields that have a default.
_NEW_CONTACT_PROPERTIES: Final = {
    name: {key: value for key, value in field.items() if key not in {"default", "title"}}
    for name, field in _CONTACT_FIELDS.items()
}

RESOURCE_SCHEMAS: Final[Mapping[str, Json]] = {
    "NewContact": {
        "description": "A contact to create.",
        "type": "object",
        "properties": _NEW_CONTACT_PROPERTIES,
        "required": NEW_CONTACT_JSON_SCHEMA["required"],
    },
    "CreateContactSubmission": object_of({"contact": ref("schemas", "NewContact")}),
    "BatchedNewContact": {
        "description": "A contact to create, with its idempotency key.",
        "type": "object",
        "properties": {
            **_NEW_CONTACT_PROPERTIES,
            "idempotency_key": described(
                IDEMPOTENCY_KEY, "Makes retries safe, as the header `Idempotency-Key` does."
            ),
        },
        "required": NEW_CONTACT_JSON_SCHEMA["required"],
    },
    "CreateContactsSubmission": object_of(
        {"contacts": {"type": "array", "items": ref("schemas", "BatchedNewContact")}}
    ),
    "BatchedContact": _entry(data=ref("schemas", "Contact"), meta=ref("schemas", "Meta")),
    "BatchedPreview": _entry(data=ref("schemas", "ContactPreview"), meta=_meta({"dry_run": _TRUE})),
    "BatchedError": _entry(error=one_of(ErrorCode)),
    "BatchMeta": object_of(
        {
            "created": described(
                NUMBER,
                (
                    "Contacts that this request, or an earlier one with its idempotency keys, "
                    "created."
                ),
            ),
            "existed": described(
                NUMBER, "Contacts that already existed, with `on_conflict=return_existing`."
            ),
            "refused": described(NUMBER, "Submissions with an error."),
        },
        ignored_fields=described(
            _TEXTS, "The unknown fields beside `contacts`, which were ignored."
        ),
    ),
    "BatchDocument": object_of(
        {
            "data": {
                "type": "array",
                "items": {
                    "anyOf": [
                        ref("schemas", "BatchedContact"),
                        ref("schemas", "BatchedPreview"),
                        ref("schemas", "BatchedError"),
                    ]
                },
            },
            "meta": ref("schemas", "BatchMeta"),
        }
    ),
    "Contact": _contact(ID, _MAY_BE_NULL),
    # Not the type null: some client generators make it a class, or anything.
    "ContactPreview": _contact(described(NULLABLE_ID, _ALWAYS_NULL), _ALWAYS_NULL),
    "ContactRelationships": {
        "description": (
            "The HiEnergy advertiser that owns the contact. Its id is a string: JavaScript rounds "
            "the number in `advertiser_id` above 2^53."
        ),
        **object_of(
            {
                "advertiser": object_of(
                    {
                        "data": object_of(
                            {"type": {"type": "string", "const": "advertiser"}, "id": ID}
                        )
                    }
                )
            }
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
    "Meta": _meta({}),
    "ContactDocument": _document("Contact"),
    "ExistingContactDocument": _document("Contact", existed=_TRUE),
    "ContactPreviewDocument": _document("ContactPreview", dry_run=_TRUE),
    "AdvertiserDocument": _document("Advertiser"),
    "PageMeta": object_of(
        {
            "current_page": NUMBER,
            "next_page": NULLABLE_NUMBER,
            "per_page": NUMBER,
            "has_more": {"type": "boolean"},
        },
        skipped={
            "type": "integer",
            "minimum": 1,
            "description": (
                "How many records of this page are left out, because HiEnergy sends them without "
                "an id or an owner. Absent if none is."
            ),
        },
    ),
    "ContactPage": _page("Contact"),
    "AdvertiserPage": _page("Advertiser"),
}
