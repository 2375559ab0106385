"""The shapes of upstream's documents: where they have rows, ids, fields, pages and errors.

Nothing here fails on an unexpected document. The check of the real API reports what it sees, so
`names_and_types`, envelopes and forms of errors contain no value that upstream sent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from contact_gateway.upstream import documents
from contact_gateway.upstream.calls import Response
from contact_gateway.upstream.documents import (
    ADVERTISERS,
    CONTACTS,
    fields_of,
    has_more,
    numeric_id,
    unwrapped,
)

DOCUMENTED_ENVELOPE: Final = "`data`"

# A name that holds anything else, such as an e-mail address, may be data.
_NAME: Final = re.compile("[a-z][a-z0-9_]{0,39}")
_HEADER_NAME: Final = re.compile("[A-Za-z0-9-]{1,64}")
_MAX_NAMES: Final = 200
_MAX_DEPTH: Final = 8
_TYPES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
}
_NO_FIELDS: Final = frozenset({"attributes", "id", "type"})
_PAGING_NAMES: Final = frozenset(
    {
        "after",
        "current_page",
        "cursor",
        "has_more",
        "limit",
        "next_cursor",
        "next_page",
        "page",
        "per_page",
        "prev_page",
        "total",
        "total_count",
        "total_pages",
    }
)
# The members whose own members are part of the format. Those of any other object may be data.
_DESCENDED: Final = frozenset(
    {
        "",
        "[]",
        *CONTACTS,
        *ADVERTISERS,
        "contacts[]",
        "advertisers[]",
        "attributes",
        "data[]",
        "error",
        "errors[]",
        "meta",
        "pagination",
        "relationships",
    }
)


class Document(NamedTuple):
    """A success: `content` is a list of rows or one row; `beside` has what is beside it."""

    envelope: str
    content: object
    beside: Mapping[str, object]


class Row(NamedTuple):
    """A record as the gateway reads it: its fields are in `attributes`, or beside its id."""

    is_flat: bool
    id: str | int
    fields: Mapping[str, object]

    @property
    def is_readable(self) -> bool:
        """Whether the gateway can read the id."""
        return numeric_id(self.id) is not None


class Paging(NamedTuple):
    """What a list says of its pages. `place` is empty if it says nothing."""

    place: str = ""
    names: tuple[str, ...] = ()
    page_size: int | None = None
    has_more: bool | None = None


def document_of(body: object) -> Document | None:
    """Return the document in the body of a success, or None if the gateway cannot read it."""
    content, around = unwrapped(body, (*CONTACTS, *ADVERTISERS))
    if not around:
        return None
    envelope = "`data` in a root key" if len(around) > 1 else "a root key without `data`"
    if around[0].get("data") is content:
        envelope = DOCUMENTED_ENVELOPE
    beside = {name: value for level in around for name, value in level.items()}
    return Document(envelope, content, beside)


def row_of(resource: object) -> Row | None:
    """Return the row of a resource, or None if it is not an object with an id."""
    fields = fields_of(resource)
    row_id = None if fields is None else fields.get("id")
    if fields is None or isinstance(row_id, bool) or not isinstance(row_id, (int, str)):
        return None
    others = {name: value for name, value in fields.items() if name not in _NO_FIELDS}
    return Row(is_flat=fields is resource, id=row_id, fields=others)


def owner_of(row: Row) -> str | None:
    """Return the id or slug of a contact's advertiser as text, or None."""
    shown, _ = documents.owner_of(row.fields)
    owner = row.fields.get("advertiser_id") if shown is None else shown
    return None if isinstance(owner, bool) or not isinstance(owner, (int, str)) else str(owner)


def paging_of(document: Document) -> Paging:
    """Return what a list says of its pages."""
    beside = document.beside
    meta = beside.get("meta")
    places = {
        "`meta.pagination`": meta.get("pagination") if isinstance(meta, Mapping) else None,
        "`pagination`": beside.get("pagination"),
        "`meta`": meta,
        "beside the rows": beside,
    }
    for place, members in places.items():
        if isinstance(members, Mapping) and (names := _PAGING_NAMES & members.keys()):
            sizes = (members.get("per_page"), members.get("limit"))
            return Paging(
                place,
                tuple(sorted(names)),
                next((size for size in sizes if type(size) is int), None),
                has_more((members,)),
            )
    return Paging()


def error_form_of(response: Response) -> str:
    """Return the form of an error's body, in a report's words."""
    body = response.body
    if body is None:
        if response.headers.get("Content-Length") == "0":
            return "empty"
        is_html = response.headers.get("Content-Type", "").lower().startswith("text/html")
        return "HTML" if is_html else "neither JSON nor HTML"
    match body:
        case {"error": Mapping()}:
            return "`error` is an object"
        case {"error": str()}:
            return "`error` is a text"
        case {"errors": [Mapping(), *_]}:
            return "`errors` is a list of objects"
        case {"errors": [str(), *_]}:
            return "`errors` is a list of texts"
        case {"errors": Mapping()}:
            return "`errors` is an object of fields"
        case Mapping() if body and all(isinstance(value, list) for value in body.values()):
            return "an object of fields"
        case _:
            return "other JSON"


def type_of(value: object) -> str:
    """Return the JSON type of a value."""
    return _TYPES.get(type(value), "object")


def header_names(response: Response) -> Sequence[str]:
    """Return the names of a response's headers, sorted."""
    names = (name for name in response.headers if _HEADER_NAME.fullmatch(name))
    return sorted(set(islice(names, _MAX_NAMES)))


def names_and_types(body: object) -> Mapping[str, str]:
    """Return the types of each member of a document, by its path such as `data[].id`."""
    types: dict[str, set[str]] = {}
    for path, type_name in _members("", body, _MAX_DEPTH):
        if path in types or len(types) < _MAX_NAMES:
            types.setdefault(path, set()).add(type_name)
    return {path: ", ".join(sorted(names)) for path, names in sorted(types.items())}


def _members(path: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the path and the type of a value and of its members, in lists of each item."""
    yield path, type_of(value)
    if not depth:
        return
    if isinstance(value, list):
        for item in value:
            yield from _members(f"{path}[]", item, depth - 1)
    elif isinstance(value, Mapping) and path.rpartition(".")[2] in _DESCENDED:
        for name, member in value.items():
            if _NAME.fullmatch(str(name)):
                yield from _members(f"{path}.{name}".removeprefix("."), member, depth - 1)
