"""The parameters of the REST operations in the OpenAPI document, by name."""

from typing import Final

from contact_gateway.contacts.contact import NEW_CONTACT_JSON_SCHEMA
from contact_gateway.contacts.fields import MAX_TEXT_LENGTH, PRINTABLE_PATTERN
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE, MAX_PAGE, MAX_PAGE_SIZE
from contact_gateway.contacts.text import BLANK_CLASS
from contact_gateway.faces.rest.json_schema import ID, IDEMPOTENCY_KEY, TEXT, Json

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
_CLAMPED: Final = f"Numbers above {MAX_PAGE_SIZE} count as {MAX_PAGE_SIZE}."
_FOLDED: Final = "Case and Unicode form are ignored."
_FILTERS: Final = (
    (
        "q",
        _FILTER_TEXT,
        (
            "Text in a contact's e-mail address, names, job title or phone number, or in an "
            f"advertiser's names, slug or domain. {_FOLDED}"
        ),
    ),
    ("email", _FILTER_TEXT, f"The complete e-mail address. {_FOLDED}"),
    ("query", _FILTER_TEXT, "Another name for `q`."),
    ("search", _FILTER_TEXT, "Another name for `q`."),
    (
        "advertiser_id",
        _FILTER_ID_OR_SLUG,
        "Only contacts of this brand, by the id or the slug of any of its records.",
    ),
    ("advertiser_name", _FILTER_TEXT, f"Text in a name of the advertiser. {_FOLDED}"),
    ("hienergy_id", _FILTER_ID, "Only records of the brand with this HiEnergy record."),
    ("domain", _FILTER_TEXT, f"The complete domain of the advertiser. {_FOLDED}"),
    ("advertiser_domain", _FILTER_TEXT, "Another name for `domain`."),
    ("network", _FILTER_TEXT, f"The complete name of the affiliate network. {_FOLDED}"),
)


def _query(name: str, schema: Json, description: str) -> dict[str, object]:
    """Return a query parameter of a read. An empty one counts as not sent."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": True,
        "schema": schema,
    }


PARAMETERS: Final = {
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
            "Create nothing: return the contact that would be created. Applies every rule; in "
            "front of HiEnergy, those that reads can check. "
            "`dryRun` is accepted too."
        ),
        "schema": {"type": "boolean", "default": False},
    },
    "on_conflict": {
        "name": "on_conflict",
        "in": "query",
        "description": (
            "What to do if the advertiser already has a contact with the e-mail address: `refuse` "
            "is a 409, `return_existing` is a 200 with that contact and `meta.existed`. Nothing "
            "about it is updated: HiEnergy has no operation for that."
        ),
        "schema": {
            "type": "string",
            "enum": list(OnConflict),
            "default": OnConflict.REFUSE,
        },
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
        "schema": IDEMPOTENCY_KEY,
    },
    **{name: _query(name, schema, text) for name, schema, text in _FILTERS},
    "domain_or_url": {
        "name": "domain",
        "in": "query",
        "required": True,
        "description": "A domain, or a URL with the domain. A leading `www.` is ignored.",
        "schema": {
            "type": "string",
            "maxLength": MAX_TEXT_LENGTH,
            "pattern": (
                rf"^{BLANK_CLASS}*[^\x00-\x1f\x7f-\x9f{BLANK_CLASS[1:-1]}][^\x00-\x1f\x7f-\x9f]*$"
            ),
        },
    },
    # HiEnergy does not describe all of its filters.
    **{
        name: _query(name, _FILTER_TEXT, f"HiEnergy's filter `{name}`, passed on.")
        for name in ("phone", "url", "country", "vertical", "status")
    },
    "name": _query("name", _FILTER_TEXT, f"Text in a name. {_FOLDED}"),
    "page": _query(
        "page",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1},
        "The number of the page, from 1.",
    ),
    "per_page": _query("per_page", _PAGE_SIZE, f"Records per page. {_CLAMPED}"),
    "limit": _query(
        "limit", _PAGE_SIZE, "Another name for `per_page`, which counts if both are given."
    ),
}
