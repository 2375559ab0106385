"""How agents see the tools. Schemas and descriptions come from the REST face's OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from mcp.types import Tool as Description
from mcp.types import ToolAnnotations

from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.contacts.source import KnownFilters
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.mcp import tools
from contact_gateway.faces.rest.openapi import openapi_document

# Any: JSON of a known shape.
_Json: TypeAlias = dict[str, Any]

INSTRUCTIONS: Final = (
    "Contacts at advertisers. An advertiser is a brand with records on several affiliate networks. "
    "Its contacts are on its HiEnergy record. Preview a creation with `dry_run`. Send an "
    "`idempotency_key` with each creation, and the same one again if the answer is lost. An error "
    "has a `code`, a `message` and `details`."
)

_ADVERTISER: Final = {
    "anyOf": [{"type": "string"}, {"type": "integer"}],
    "description": (
        "The advertiser, by its id, slug, domain or name. If several match, the answer is an error "
        "that lists the candidates."
    ),
}
_LEFT_OUT: Final = frozenset({"examples", "pattern", "title"})
_READ: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
# Not idempotent: without an idempotency key, HiEnergy may create a second contact.
_CREATE: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "enum": list(dict.fromkeys((*ErrorCode, *TransportCode))),
                },
                "message": {"type": "string"},
                "timestamp": {"type": "string", "format": "date-time"},
                "request_id": {"type": "string"},
                "details": {
                    "type": "object",
                    "description": (
                        "Where the code has them: `problems` of the arguments, `candidates` for an "
                        "advertiser, the `existing` contact, `retry_after_seconds`."
                    ),
                },
            },
            "required": ["code", "message", "timestamp", "request_id", "details"],
        }
    },
    "required": ["error"],
}


class DescribedTool(NamedTuple):
    """A tool and its description."""

    description: Description
    call: tools.Tool


def described_tools(filters: KnownFilters) -> Mapping[str, DescribedTool]:
    """Return the tools by name. Searches have the filters that the source of truth knows."""
    api = _OpenApi(openapi_document(filters))
    create = api.operation("post", "/contacts")
    create_many = api.operation("post", "/contacts/batch")
    contacts = api.operation("get", "/contacts")
    contacts_of_advertiser = api.operation("get", "/advertisers/{id}/contacts")
    advertisers = api.operation("get", "/advertisers")
    by_domain = api.operation("get", "/advertisers/search_by_domain")
    advertiser = api.operation("get", "/advertisers/{id}")
    body = api.resolved(create["requestBody"]["content"]["application/json"]["schema"])
    contact = api.resolved(body["properties"]["contact"])
    fields = {name: _concise(field) for name, field in contact["properties"].items()}
    options = {
        "idempotency_key": api.parameters(create)["Idempotency-Key"],
        "dry_run": {
            "type": "boolean",
            "default": False,
            "description": "Create nothing: return what would be created, and where.",
        },
        "on_conflict": api.parameters(create)["on_conflict"],
    }
    with_contact = _arguments(
        {"contact": _arguments(fields, *contact["required"]), **options}, "contact"
    )
    key = {"idempotency_key": options["idempotency_key"]}
    with_contacts = _arguments(
        {
            "contacts": {
                "type": "array",
                "description": "The contacts to create.",
                "maxItems": tools.MAX_BATCH_SIZE,
                "items": _arguments({**fields, **key}, *contact["required"]),
            },
            **options,
        },
        "contacts",
    )
    flat = {name: fields[name] for name in tools.FLAT_FIELDS}
    with_name = _arguments({"advertiser": _ADVERTISER, **flat, **options}, "advertiser", "email")
    of_advertiser = {**api.parameters(contacts_of_advertiser), "advertiser": _ADVERTISER}
    del of_advertiser["id"]
    search = _arguments(api.parameters(contacts))
    rows = (
        ("add_contact", tools.add_contact, create, with_contact, create["description"]),
        (
            "create_contact",
            tools.add_contact,
            create,
            with_contact,
            f"{create['description']} The same as `add_contact`.",
        ),
        (
            "add_contact_for_advertiser",
            tools.add_contact_for_advertiser,
            create,
            with_name,
            "Creates a contact for an advertiser, found by its id, slug, domain or name.",
        ),
        (
            "add_contacts",
            tools.add_contacts,
            create_many,
            with_contacts,
            f"Creates up to {tools.MAX_BATCH_SIZE} contacts. {create_many['description']}",
        ),
        (
            "get_advertiser_contacts",
            tools.get_advertiser_contacts,
            contacts_of_advertiser,
            _arguments(of_advertiser, "advertiser"),
            f"Lists the contacts of a brand. {contacts_of_advertiser['description']}",
        ),
        (
            "search_contacts",
            tools.search_contacts,
            contacts,
            search,
            f"Lists the contacts that match all filters. {contacts['description']}",
        ),
        (
            "find_contacts",
            tools.search_contacts,
            contacts,
            search,
            "Lists the contacts that match all filters. The same as `search_contacts`.",
        ),
        (
            "search_advertisers",
            tools.search_advertisers,
            advertisers,
            _arguments(api.parameters(advertisers)),
            f"Lists the advertisers that match all filters. {advertisers['description']}",
        ),
        (
            "search_advertisers_by_domain",
            tools.search_advertisers_by_domain,
            by_domain,
            _arguments(api.parameters(by_domain), "domain"),
            f"Lists the advertisers with a domain. {advertisers['description']}",
        ),
        (
            "get_advertiser",
            tools.get_advertiser,
            advertiser,
            _arguments({"id": _ADVERTISER}, "id"),
            "Reads one advertiser.",
        ),
    )
    return {
        name: DescribedTool(
            Description(
                name=name,
                title=name.replace("_", " ").capitalize(),
                description=text,
                input_schema=arguments,
                output_schema=api.results(operation),
                annotations=_CREATE if operation in (create, create_many) else _READ,
            ),
            call,
        )
        for name, call, operation, arguments, text in rows
    }


def _arguments(properties: _Json, *required: str) -> _Json:
    """Return the schema of arguments. Others are refused."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _concise(schema: _Json) -> _Json:
    """Return a schema without what agents do not need, since all tools are in their prompts."""
    return {
        name: value
        for name, value in schema.items()
        # A property may have such a name; its schema is an object.
        if name not in _LEFT_OUT or isinstance(value, dict)
    }


class _OpenApi:
    """The OpenAPI document, parts of which describe the tools."""

    def __init__(self, document: _Json) -> None:
        self._document: Final = document

    def operation(self, method: str, path: str) -> _Json:
        found: _Json = self._document["paths"][path][method]
        return found

    def resolved(self, part: _Json) -> _Json:
        """Return the component that a part refers to."""
        _, components, kind, name = part["$ref"].split("/")
        found: _Json = self._document[components][kind][name]
        return found

    def parameters(self, operation: _Json) -> _Json:
        """Return the schemas of an operation's parameters by name."""
        parameters = map(self.resolved, operation["parameters"])
        return {
            each["name"]: {**_concise(each["schema"]), "description": each["description"]}
            for each in parameters
        }

    def results(self, operation: _Json) -> _Json:
        """Return the schema of a tool's results: the documents of an operation, or an error."""
        definitions: _Json = {}
        documents = [
            self._standalone(response["content"]["application/json"]["schema"], definitions)
            for status, response in operation["responses"].items()
            if status.startswith("2")
        ]
        # The root must have this type (MCP specification 2025-11-25, Output Schema).
        return {"type": "object", "anyOf": [*documents, _ERROR], "$defs": definitions}

    def _standalone(self, part: Any, definitions: _Json) -> Any:  # noqa: ANN401 - JSON
        """Return a part with references into `definitions`; add what it refers to."""
        if isinstance(part, list):
            return [self._standalone(each, definitions) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" not in part:
            parts = _concise(part).items()
            return {name: self._standalone(each, definitions) for name, each in parts}
        name = part["$ref"].rpartition("/")[2]
        if name not in definitions:
            definitions[name] = self._standalone(self.resolved(part), definitions)
        return {"$ref": f"#/$defs/{name}"}
