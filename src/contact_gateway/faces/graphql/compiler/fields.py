"""Fields and selection sets: executed side by side, or one after the other.

Source: the GraphQL specification, sections 6.3 and 6.4.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Final, cast

from graphql import (
    FieldNode,
    GraphQLBoolean,
    GraphQLField,
    GraphQLID,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLString,
    located_error,
)
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path, gather_with_cancel, is_awaitable

from contact_gateway.faces.graphql.compiler.arguments import Arguments, argument_coercer
from contact_gateway.faces.graphql.compiler.resolvers import Attribute, Resolve
from contact_gateway.faces.graphql.compiler.run import Run, settle

if TYPE_CHECKING:
    from contact_gateway.faces.graphql.compiler.completion import Complete
    from contact_gateway.faces.graphql.compiler.selections import Selections

_TYPENAME: Final = "__typename"
_OF_ONE_PYTHON_TYPE: Final[dict[object, type]] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
}


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
        self.complete: Final[Complete] = selections.completer(definition.type)
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

    def finish(self, run: Run, result: object, path: Path) -> object:
        """Complete a value that was found, as `execute` does."""
        try:
            if is_awaitable(result):
                return self._complete_awaited(run, path, result)
            completed = self.complete(run, self, result, path)
        except Exception as error:  # noqa: BLE001 - whatever a value raises is told as an error
            return self.fail(run, error, path, is_non_null=self.is_non_null)
        if isinstance(completed, CoroutineType):
            return self._await_completed(run, path, completed)
        return completed

    async def _complete_awaited(self, run: Run, path: Path, result: Awaitable[object]) -> object:
        try:
            completed = self.complete(run, self, await result, path)
            if isinstance(completed, CoroutineType):
                completed = await completed
        except Exception as error:  # noqa: BLE001 - whatever a resolver raises is told as an error
            return self.fail(run, error, path, is_non_null=self.is_non_null)
        return completed

    async def _await_completed(self, run: Run, path: Path, completed: Awaitable[object]) -> object:
        try:
            return await completed
        except Exception as error:  # noqa: BLE001 - whatever a resolver raises is told as an error
            return self.fail(run, error, path, is_non_null=self.is_non_null)

    def fail(self, run: Run, error: Exception, path: Path, *, is_non_null: bool) -> object:
        """Note an error and return null, where that may stand (section 6.4.4).

        Raises:
            GraphQLError: none may, so it is the parent's.
        """
        located = located_error(error, self.nodes, path.as_list())
        if is_non_null:
            raise located
        run.errors.add(located, path)
        return None


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
            return self.fail(run, error, path, is_non_null=self.is_non_null)
        return self.finish(run, result, path)


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
        nullable = definition.type
        if isinstance(nullable, GraphQLNonNull):
            nullable = nullable.of_type
        self._attribute: Final = attribute
        # Values of this type are complete as they are.
        self._complete_type: Final = _OF_ONE_PYTHON_TYPE.get(nullable)

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it."""
        try:
            value = self._attribute(source)
        except Exception as error:  # noqa: BLE001 - whatever a property raises is told as an error
            return self.fail(run, error, self.path(parent_path), is_non_null=self.is_non_null)
        if type(value) is self._complete_type or (value is None and not self.is_non_null):
            return value
        return self.finish(run, value, self.path(parent_path))


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
        return _gathered(results, awaited) if awaited else results

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


async def _gathered(results: dict[str, object], awaited: Sequence[str]) -> object:
    if len(awaited) == 1:
        key = awaited[0]
        results[key] = await cast(Awaitable[object], results[key])
        return results
    values = await gather_with_cancel(*(cast(Awaitable[object], results[key]) for key in awaited))
    results.update(zip(awaited, values, strict=True))
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
