"""Execute planned fields and selection sets, concurrently or serially.

Source: the GraphQL specification, sections 6.3 and 6.4.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CoroutineType
from typing import Final, TypeAlias, cast

from graphql import (
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_nullable_type,
)
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path

from graphql_plans.arguments import Arguments
from graphql_plans.completion import Completer
from graphql_plans.concurrency import gather_results, settle_in_background
from graphql_plans.execution import PYTHON_TYPES, Field, Run
from graphql_plans.plain import Plain, PlainAttribute, PlainObjects, generate, plain_completer
from graphql_plans.resolvers import Attribute, Resolve, attribute_of, resolver


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """The parts that all planned fields of one definition share."""

    completer: Completer
    plain: Plain | None
    attribute: Attribute | None
    resolve: Resolve


class FieldDefinitions:
    """The field definitions of a schema, each prepared once."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema: Final = schema
        # By identity: they are not hashable, and the schema holds references to them.
        self._definitions: Final[dict[int, FieldDefinition]] = {}

    def get(self, definition: GraphQLField) -> FieldDefinition:
        """Return the shared parts of a definition."""
        found = self._definitions.get(id(definition))
        if found is None:
            found = self._definitions[id(definition)] = FieldDefinition(
                completer=Completer(definition.type),
                plain=plain_completer(definition.type, lambda _: None),
                attribute=attribute_of(definition, self._schema),
                resolve=resolver(definition, self._schema),
            )
        return found


@dataclass(eq=False)
class PlannedField(Field):
    """A field, and what all fields of its definition share."""

    shared: FieldDefinition
    select: "Select"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._completer = self.shared.completer
        self._selection_sets: dict[GraphQLObjectType, SelectionSet] = {}

    def execute_selection_set(
        self, type_: GraphQLObjectType, run: Run, value: object, path: Path
    ) -> object:
        """Return the values selected of an object of this type, or a coroutine of them."""
        return self.selection_set(type_).execute(run, value, path)

    def selection_set(self, type_: GraphQLObjectType) -> "SelectionSet":
        """Return the fields selected of an object of this type."""
        found = self._selection_sets.get(type_)
        if found is None:
            found = self._selection_sets[type_] = self.select(type_, self.details)
        return found


@dataclass(eq=False)
class ResolvedField(PlannedField):
    """A field with a resolver."""

    arguments: Arguments

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it.

        Raises:
            GraphQLError: the field has an error, and its type is non-null.
        """
        path = self.path(parent_path)
        try:
            value = self.shared.resolve(run, self, source, path, self.arguments(run.variables))
        except Exception as error:  # noqa: BLE001 - any error of a resolver is reported
            return self._completer.handle_error(run, self, error, path)
        return self._completer.complete(run, self, value, path)

    def plain_field(self) -> None:
        """Return None: generated code calls no resolver."""


@dataclass(eq=False)
class AttributeField(PlannedField):
    """A field that reads an attribute of its parent object."""

    attribute: Attribute

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read = self.attribute.read
        self._plain = self.shared.plain
        self._python_type = PYTHON_TYPES.get(get_nullable_type(self.definition.type))
        self._is_nullable = not isinstance(self.definition.type, GraphQLNonNull)

    def execute(self, run: Run, source: object, parent_path: Path | None) -> object:
        """Return the completed value, or a coroutine of it, as a field with a resolver does."""
        try:
            value = self._read(source)
        except Exception as error:  # noqa: BLE001 - any error of a property is reported
            return self._completer.handle_error(run, self, error, self.path(parent_path))
        # Most fields end here: a path for each would cost more than reading it.
        if type(value) is self._python_type or (value is None and self._is_nullable):
            return value
        if self._plain is not None:
            try:
                return self._plain(value)
            except Exception:  # noqa: BLE001, S110 - the completer meets the error again
                pass
        return self._completer.complete(run, self, value, self.path(parent_path))

    def plain_field(self) -> PlainAttribute | None:
        """Return what generated code reads, or None if its values are never plain."""
        name = self.attribute.plain_name
        if name is None:
            return None
        type_ = self.definition.type
        plain = self._plain or plain_completer(
            type_, lambda object_type: self.selection_set(object_type).generated
        )
        return None if plain is None else PlainAttribute(name, type_, plain)


class TypenameField:
    """The field `__typename`."""

    def __init__(self, parent_type: GraphQLObjectType) -> None:
        self._name: Final = parent_type.name

    def execute(self, _run: Run, _source: object, _parent_path: Path | None) -> object:
        """Return the name of the type."""
        return self._name

    def plain_field(self) -> str:
        """Return the name of the type, a constant of generated code."""
        return self._name


AnyField: TypeAlias = ResolvedField | AttributeField | TypenameField


class SelectionSet:
    """The fields selected of an object of one type, in the order of the response."""

    def __init__(self, fields: Sequence[tuple[str, AnyField]]) -> None:
        self._fields: Final = fields
        self._was_executed = False

    def execute(self, run: Run, source: object, path: Path | None) -> object:
        """Execute the fields concurrently; return their values, or a coroutine of them.

        Raises:
            GraphQLError: a field has an error, and its type is non-null.
        """
        if self._was_executed:
            try:
                if self.generated is not None:
                    return self.generated((source,))[0]
            except Exception:  # noqa: BLE001, S110 - the fields meet the error again, and report it
                pass
        self._was_executed = True
        results: dict[str, object] = {}
        pending: list[str] = []
        try:
            for key, field in self._fields:
                result = field.execute(run, source, path)
                results[key] = result
                if isinstance(result, CoroutineType):
                    pending.append(key)
        except Exception:
            if pending:
                settle_in_background([cast(Awaitable[object], results[key]) for key in pending])
            raise
        return gather_results(results, pending) if pending else results

    @cached_property
    def generated(self) -> PlainObjects | None:
        """The generated function that completes plain objects; None if a field is never plain.

        It is generated for the second execution: many documents are executed only once.
        """
        fields = [(key, field.plain_field()) for key, field in self._fields]
        plain = [(key, field) for key, field in fields if field is not None]
        return generate(plain) if len(plain) == len(fields) else None

    def execute_serially(self, run: Run) -> object:
        """Execute the fields as `execute` does, but one after the other (section 6.2.2)."""
        results: dict[str, object] = {}
        fields = iter(self._fields)
        for key, field in fields:
            result = results[key] = field.execute(run, None, None)
            if isinstance(result, CoroutineType):
                return _await_serially(run, results, key, fields)
        return results


async def _await_serially(
    run: Run, results: dict[str, object], pending: str, fields: Iterator[tuple[str, AnyField]]
) -> object:
    results[pending] = await cast(Awaitable[object], results[pending])
    for key, field in fields:
        value = field.execute(run, None, None)
        results[key] = await value if isinstance(value, CoroutineType) else value
    return results


Select = Callable[[GraphQLObjectType, list[FieldDetails]], SelectionSet]
"""Returns the selection set of a field's nodes, for one type of its value."""
