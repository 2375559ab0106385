"""When the header `Idempotency-Key` replaces the argument: when it can mean only one field."""

from collections.abc import Collection, Mapping
from typing import Final

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    SelectionSetNode,
)

_ARGUMENT: Final = "idempotencyKey"


def replaces_the_argument(info: GraphQLResolveInfo[object]) -> bool:
    """Return whether the executed operation has exactly one field that takes an idempotency key.

    Fields with one response key are one field (GraphQL specification, section 6.3.2).
    """
    names = [name for name, field in info.parent_type.fields.items() if _ARGUMENT in field.args]
    return len(_response_keys(info.operation.selection_set, names, info.fragments, {})) == 1


def _response_keys(
    selections: SelectionSetNode,
    names: Collection[str],
    fragments: Mapping[str, FragmentDefinitionNode],
    read: dict[str, frozenset[str]],
) -> frozenset[str]:
    """Return the response keys of the named root fields; each fragment is read once."""
    keys: frozenset[str] = frozenset()
    for node in selections.selections:
        match node:
            case FieldNode():
                if node.name.value in names:
                    keys |= {(node.alias or node.name).value}
            case InlineFragmentNode():
                keys |= _response_keys(node.selection_set, names, fragments, read)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in read:
                    spread = fragments[name].selection_set
                    read[name] = _response_keys(spread, names, fragments, read)
                keys |= read[name]
            case _:
                raise TypeError(node.kind)
    return keys
