"""The submissions and resources of the REST operations in the OpenAPI document, by name."""

from collections.abc import Mapping
from typing import Final

from contact_gateway.contacts.advertiser import FIELD_DESCRIPTIONS
from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA, ContactDetails
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

_ALWAYS_NULL: Final = "Null: nothing is created."
_TEXTS: Final = {"type": "array", "items": TEXT}
_MAY_BE_NULL: Final = "Null only if HiEnergy does not show it."


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


def _contact(an_id: Json, when_null: str) -> dict[str, object]:
    """Return the schema of a contact. `when_null` describes its times."""
    time = {**NULLABLE_TIME, "description": when_null}
    return _resource(
        "contact",
        an_id,
        _CONTACT_ATTRIBUTES | {"created_at": time, "updated_at": time},
        relationships=ref("schemas", "ContactRelationships"),
    )


RESOURCE_SCHEMAS: Final[Mapping[str, Json]] = {
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
    "Contact": _contact(ID, _MAY_BE_NULL),
    # Not the type null: some client generators make it a class, or anything.
    "ContactPreview": _contact({**NULLABLE_ID, "description": _ALWAYS_NULL}, _ALWAYS_NULL),
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
    "Meta": object_of(
        {},
        ignored_fields={
            **_TEXTS,
            "description": "The unknown fields of the request, which were ignored.",
        },
        dry_run={"type": "boolean"},
        not_checked={
            **_TEXTS,
            "description": "In front of HiEnergy: what a dry run cannot check.",
        },
    ),
    "ContactDocument": _document("Contact"),
    "ContactPreviewDocument": _document("ContactPreview"),
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
