"""The idempotency key of a field: its argument or the header, and how a replay is reported."""

from typing import Final

from contact_gateway.faces.graphql.limits import root_fields
from contact_gateway.faces.graphql.types import ResolveInfo

# A batch takes a key in each submission; the header is the key of those without one.
_ARGUMENTS: Final = frozenset({"idempotencyKey", "submissions"})


def idempotency_key_of(info: ResolveInfo, argument: str | None) -> str | None:
    """Return the argument, or the header if the operation has only one field that takes a key."""
    header = info.context.headers.get("idempotency-key")
    if argument is not None or header is None:
        return argument
    return header if _is_alone(info) else None


def report_replay(info: ResolveInfo) -> None:
    """Record that a field returns what an earlier call with its key created.

    The response reports it outside the data: a normalised cache would keep it with the contact.
    """
    context = info.context
    context.replayed += (str(info.path.key),)
    context.is_replay = _is_alone(info)


def _is_alone(info: ResolveInfo) -> bool:
    """Return whether the operation has only one field that takes an idempotency key."""
    # Strawberry's own info does not have the fragments of the document.
    raw_info = info._raw_info  # noqa: SLF001
    fields = raw_info.parent_type.fields.items()
    names = {name for name, field in fields if not _ARGUMENTS.isdisjoint(field.args)}
    # Fields with one response key are one field (GraphQL specification, section 6.3.2).
    keys = {
        (node.alias or node.name).value
        for node in root_fields(raw_info.operation.selection_set, raw_info.fragments)
        if node.name.value in names
    }
    return len(keys) == 1
