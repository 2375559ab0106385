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
    """Tell whether the operation that is executed has exactly one `createContact`."""
    return _creations(info.operation.selection_set, info.fragments, {}) == 1


def _creations(
    selections: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    counted: dict[str, int],
) -> int:
    """Count the creations among the root fields, each fragment once, up to two."""
    count = 0
    for node in selections.selections:
        match node:
            case FieldNode():
                count += node.name.value == _CREATION
            case InlineFragmentNode():
                count += _creations(node.selection_set, fragments, counted)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in counted:
                    inner = fragments[name].selection_set
                    counted[name] = _creations(inner, fragments, counted)
                count += counted[name]
            case _:
                raise TypeError(node.kind)
    return min(count, 2)
