"""Cache the object types of an interface's or a union's values, by their Python class.

If Strawberry needs more than the class to decide, nothing is cached.
"""

from typing import Final

from graphql import GraphQLAbstractType, GraphQLObjectType, GraphQLUnionType
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import get_strawberry_type_cast
from strawberry.types.union import StrawberryUnion

from graphql_plans.execution import DEFINITION


class RuntimeTypes:
    """A cache of the runtime types of one interface or union."""

    def __init__(self, type_: GraphQLAbstractType) -> None:
        self._base_class: Final = _base_class(type_)
        self._types: Final[dict[type, GraphQLObjectType]] = {}

    def get(self, value: object) -> GraphQLObjectType | None:
        """Return the cached type of a value, or None."""
        type_ = self._types.get(type(value))
        return None if type_ is None or get_strawberry_type_cast(value) is not None else type_

    def add(self, value: object, type_: GraphQLObjectType) -> None:
        """Cache the type of a value, if all values of its class have this type."""
        if (
            self._base_class is not None
            and isinstance(value, self._base_class)
            and _is_decided_by_class(getattr(type(value), "__strawberry_definition__", None))
            and get_strawberry_type_cast(value) is None
        ):
            self._types[type(value)] = type_


def is_exact_instance(type_: GraphQLObjectType, value: object) -> bool:
    """Return whether a value is exactly of the type's class, so Strawberry's check would pass."""
    definition = type_.extensions.get(DEFINITION)
    return (
        isinstance(definition, StrawberryObjectDefinition)
        and type(value) is definition.origin
        and definition.is_type_of is None
        and get_strawberry_type_cast(value) is None
    )


def _base_class(type_: GraphQLAbstractType) -> type | None:
    """Return a base class of the values to cache, or None if more than the class decides."""
    definition = type_.extensions.get(DEFINITION)
    match definition:
        case StrawberryUnion() if isinstance(type_, GraphQLUnionType):
            members = [member.extensions.get(DEFINITION) for member in type_.types]
            return object if all(map(_is_decided_by_class, members)) else None
        case StrawberryObjectDefinition(resolve_type=None):
            return definition.origin
        case _:
            return None


def _is_decided_by_class(definition: object) -> bool:
    return isinstance(definition, StrawberryObjectDefinition) and not (
        definition.is_graphql_generic or definition.concrete_of or definition.is_type_of
    )
