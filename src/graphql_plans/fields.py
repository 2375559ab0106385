"""Fields and selection sets: executed side by side, or one after the other.

Source: the GraphQL specification, sections 6.3 and 6.4.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Final, cast

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    get_nullable_type,
)
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path

from graphql_plans.arguments import Arguments, argument_coercer
from graphql_plans.completion import Position
from graphql_plans.leaves import PYTHON_TYPES
from graphql_plans.resolvers import Attribute, Resolve
from graphql_plans.run import Run, gathered, settle

if TYPE_CHECKING:
    from graphql_plans.selections import Selections

_TYPENAME: Final = "__typename"


class Field(ABC):
    """One field of the response: all that its nodes fix ahead, for one type of its object."""

    def __init__(
        self,
        parent_type: GraphQLObjectType,
        details: list[FieldDetails],
        definition: GraphQLField,
        selections: "Selections",
    ) -> None:
        node = details[0].node
        self.parent_type: Final = parent_type
        self.details: Final = details
        self.name: Final = node.name.value
        self.definition: Final = definition
        self.is_non_null: Final = isinstance(definition.type, GraphQLNonNull)
        self.selections: Final = selections
        self.position: Final = Position(
            selections.resolvers.completer(definition.type), is_non_null=self.is_non_null
        )
        self._key: Final = (node.alias or node.name).value
        self._selection_sets: Final[dict[GraphQLObjectType, SelectionSet]] = {}

    @property
    def nodes(self) -> list[FieldNode]:
        """Return the nodes, in a list that its taker may keep."""
        return [detail.node for detail in self.details]

    def selection_set(self, type_: GraphQLObjectType) -> "SelectionSet":
        """Return what is selected of the field's value, where that is of a type."""
        found = self._selection_sets.get(type_)
        if found is None:
            found = self._selection_sets[type_] = self.selections.of_field(type_, self.details)
        return found

    @abstractmethod
    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it.

        Raises:
            GraphQLError: the field is not nullable and has failed.
        """

    def path(self, parent_path: Path | None) -> Path:
        """Return the path of the field's value."""
        return Path(parent_path, self._key, self.parent_type.name)


class ResolvedField(Field):
    """A field that has a resolver."""

    def __init__(
        self,
        parent_type: GraphQLObjectType,
        details: list[FieldDetails],
        definition: GraphQLField,
        selections: "Selections",
    ) -> None:
        super().__init__(parent_type, details, definition, selections)
        self.arguments: Final[Arguments] = argument_coercer(
            definition, details[0].node, hide_suggestions=selections.operation.hide_suggestions
        )
        self._resolve: Final[Resolve] = selections.resolvers.resolver(definition)

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it."""
        path = self.path(parent_path)
        try:
            result = self._resolve(run, self, source, path)
        except Exception as error:  # noqa: BLE001 - whatever a resolver raises is told as an error
            return self.position.fail(run, self, error, path)
        return self.position.finish(run, self, result, path)


class AttributeField(Field):
    """A field that is an attribute of its object."""

    def __init__(
        self,
        parent_type: GraphQLObjectType,
        details: list[FieldDetails],
        definition: GraphQLField,
        selections: "Selections",
        attribute: Attribute,
    ) -> None:
        super().__init__(parent_type, details, definition, selections)
        self._attribute: Final = attribute
        # Values of this type are complete as they are.
        self._complete_type: Final = PYTHON_TYPES.get(get_nullable_type(definition.type))

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it."""
        try:
            value = self._attribute(source)
        except Exception as error:  # noqa: BLE001 - whatever a property raises is told as an error
            return self.position.fail(run, self, error, self.path(parent_path))
        if type(value) is self._complete_type or (value is None and not self.is_non_null):
            return value
        return self.position.finish(run, self, value, self.path(parent_path))


class TypenameField(Field):
    """The field `__typename`."""

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the name of the type."""
        del run, source, parent_path
        return self.parent_type.name


class SelectionSet:
    """The fields that are selected of an object of one type, in the order of the response."""

    def __init__(self, fields: Sequence[tuple[str, Field]]) -> None:
        self._fields: Final = fields

    def execute(self, run: Run, source: object, path: Path | None) -> object:
        """Execute the fields side by side; return their values, or a coroutine of them.

        Raises:
            GraphQLError: one that is not nullable has failed.
        """
        results: dict[str, object] = {}
        awaited: list[str] = []
        try:
            for key, field in self._fields:
                result = field.execute(run, source, path)
                results[key] = result
                if isinstance(result, CoroutineType):
                    awaited.append(key)
        except Exception:
            if awaited:
                settle([cast(Awaitable[object], results[key]) for key in awaited])
            raise
        return gathered(results, awaited) if awaited else results

    def execute_serially(self, run: Run, source: object) -> object:
        """Execute the fields of a mutation, each after the one before (section 6.2.2).

        Raises:
            GraphQLError: one that is not nullable has failed.
        """
        results: dict[str, object] = {}
        for position, (key, field) in enumerate(self._fields):
            result = field.execute(run, source, None)
            if isinstance(result, CoroutineType):
                return self._go_on_serially(run, source, results, position, result)
            results[key] = result
        return results

    async def _go_on_serially(
        self,
        run: Run,
        source: object,
        results: dict[str, object],
        position: int,
        first: Awaitable[object],
    ) -> object:
        results[self._fields[position][0]] = await first
        for key, field in self._fields[position + 1 :]:
            result = field.execute(run, source, None)
            results[key] = await result if isinstance(result, CoroutineType) else result
        return results


def field_of(
    parent_type: GraphQLObjectType, details: list[FieldDetails], selections: "Selections"
) -> Field | None:
    """Return the field of some nodes; None where the type has none of its name."""
    name = details[0].node.name.value
    definition = selections.operation.schema.get_field(parent_type, name)
    if definition is None:
        return None
    if name == _TYPENAME:
        return TypenameField(parent_type, details, definition, selections)
    attribute = selections.resolvers.attribute(definition)
    if attribute is None:
        return ResolvedField(parent_type, details, definition, selections)
    return AttributeField(parent_type, details, definition, selections, attribute)
