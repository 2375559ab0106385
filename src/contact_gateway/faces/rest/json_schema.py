"""The words of JSON Schema that the OpenAPI document is written in."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from contact_gateway.contacts.fields import ID_PATTERN

Json: TypeAlias = Mapping[str, object]

TEXT: Final = {"type": "string"}
NULLABLE_TEXT: Final = {"type": ["string", "null"]}
NUMBER: Final = {"type": "integer"}
NULLABLE_NUMBER: Final = {"type": ["integer", "null"]}
TIME: Final = {"type": "string", "format": "date-time"}
NULLABLE_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
ID: Final = {"type": "string", "pattern": ID_PATTERN}
NULLABLE_ID: Final = {"type": ["string", "null"], "pattern": ID_PATTERN}

IDEMPOTENCY_KEY: Final = {
    "type": "string",
    "pattern": (
        r"^([\x21\x23-\x7e][\x21-\x7e]{0,254}"
        r'|"([\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}")$'
    ),
}


def ref(kind: str, name: str) -> dict[str, object]:
    """Return a reference to a component of the document."""
    return {"$ref": f"#/components/{kind}/{name}"}


def described(schema: Json, description: str) -> dict[str, object]:
    """Return a schema with a description."""
    return {**schema, "description": description}


def object_of(properties: Json, **optional: Json) -> dict[str, object]:
    """Return the schema of an object with these properties, of which some may be absent."""
    schema: dict[str, object] = {"type": "object", "properties": {**properties, **optional}}
    return {**schema, "required": list(properties)} if properties else schema
