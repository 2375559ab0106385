"""Which object type a value of an interface or a union is: asked once for each Python class.

Only where Strawberry decides by the class alone; any other value is asked about each time.
"""

from collections.abc import Iterable
from typing import Final

from graphql import (
    GraphQLAbstractType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
)
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import get_strawberry_type_cast
from strawberry.types.union import StrawberryUnion

_DEFINITION: Final = "strawberry-definition"


class RuntimeTypes:
    """What was found out for one abstract type."""

    def __init__(self, type_: GraphQLAbstractType) -> None:
        self._covers: Final = _is_decided_by_class(type_)
        self._origin: Final = _origin_of(type_)
        self._known: Final[dict[type, GraphQLObjectType]] = {}

    def get(self, value: object) -> GraphQLObjectType | None:
        """Return the type of a value, where it is known."""
        known = self._known.get(type(value))
        return None if known is None or get_strawberry_type_cast(value) is not None else known

    def keep(self, value: object, type_: GraphQLObjectType) -> None:
        """Keep what was found out for a value, where all of its class have the same."""
        definition = getattr(type(value), "__strawberry_definition__", None)
        if (
            self._covers
            and isinstance(definition, StrawberryObjectDefinition)
            and _is_concrete(definition)
            and isinstance(value, self._origin)
            and get_strawberry_type_cast(value) is None
        ):
            self._known[type(value)] = type_


def is_surely(type_: GraphQLObjectType, value: object) -> bool:
    """Tell whether Strawberry's own check of a value's type would hold without asking it."""
    definition = type_.extensions.get(_DEFINITION)
    return (
        isinstance(definition, StrawberryObjectDefinition)
        and type(value) is definition.origin
        and definition.is_type_of is None
        and get_strawberry_type_cast(value) is None
    )


def _is_decided_by_class(type_: GraphQLAbstractType) -> bool:
    definition = type_.extensions.get(_DEFINITION)
    if isinstance(type_, GraphQLUnionType):
        return isinstance(definition, StrawberryUnion) and _are_concrete(type_.types)
    return isinstance(definition, StrawberryObjectDefinition) and definition.resolve_type is None


def _are_concrete(types: Iterable[GraphQLObjectType]) -> bool:
    definitions = [type_.extensions.get(_DEFINITION) for type_ in types]
    return all(
        isinstance(definition, StrawberryObjectDefinition) and _is_concrete(definition)
        for definition in definitions
    )


def _is_concrete(definition: StrawberryObjectDefinition) -> bool:
    return not (definition.is_graphql_generic or definition.concrete_of or definition.is_type_of)


def _origin_of(type_: GraphQLAbstractType) -> type:
    definition = type_.extensions.get(_DEFINITION)
    if isinstance(type_, GraphQLInterfaceType) and isinstance(
        definition, StrawberryObjectDefinition
    ):
        return definition.origin
    return object
