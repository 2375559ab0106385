"""When the header `Idempotency-Key` stands in for the argument: where it means one thing only."""

from collections.abc import Mapping
from typing import Final

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    SelectionSetNode,
)

_CREATION: Final = "createContact"


def stands_in_for_the_argument(info: GraphQLResolveInfo[object]) -> bool:
    """Tell whether the operation that is executed has exactly one `createContact`.

    Fields of one response key are one field (GraphQL specification, section 6.3.2).
    """
    return len(_creations(info.operation.selection_set, info.fragments, {})) == 1


def _creations(
    selections: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    found: dict[str, frozenset[str]],
) -> frozenset[str]:
    """Return the response keys of the creations at the root; each fragment is read once."""
    keys: frozenset[str] = frozenset()
    for node in selections.selections:
        match node:
            case FieldNode():
                if node.name.value == _CREATION:
                    keys |= {(node.alias or node.name).value}
            case InlineFragmentNode():
                keys |= _creations(node.selection_set, fragments, found)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in found:
                    found[name] = _creations(fragments[name].selection_set, fragments, found)
                keys |= found[name]
            case _:
                raise TypeError(node.kind)
    return keys
