"""The idempotency key of a field: its argument or the header, and how a replay is reported."""

from collections.abc import Collection, Mapping
from typing import Final

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
)

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
    names = [name for name, field in fields if not _ARGUMENTS.isdisjoint(field.args)]
    # Fields with one response key are one field (GraphQL specification, section 6.3.2).
    keys = _response_keys(raw_info.operation.selection_set, names, raw_info.fragments, {})
    return len(keys) == 1


def _response_keys(
    selections: SelectionSetNode,
    names: Collection[str],
    fragments: Mapping[str, FragmentDefinitionNode],
    read: dict[str, frozenset[str]],
) -> frozenset[str]:
    """Return the response keys of the fields with these names. Read each fragment once."""
    keys: frozenset[str] = frozenset()
    for node in selections.selections:
        match node:
            case FieldNode():
                keys |= {(node.alias or node.name).value} if node.name.value in names else set()
            case InlineFragmentNode():
                keys |= _response_keys(node.selection_set, names, fragments, read)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in read:
                    spread = fragments[name].selection_set
                    read[name] = _response_keys(spread, names, fragments, read)
                keys |= read[name]
            case _:  # pragma: no cover - graphql-core has no other kind of selection
                raise TypeError(node.kind)
    return keys
