"""Plain types that the other files share: an operation, one run of it, a field."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from graphql import (
    Executor,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLBoolean,
    GraphQLField,
    GraphQLID,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLResolveInfoHelpers,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    VariableValues,
    default_field_resolver,
    default_type_resolver,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import Path, gather_with_cancel, is_awaitable

from graphql_plans.concurrency import settle_in_background

DEFINITION: Final = "strawberry-definition"
"""The extension that holds Strawberry's definition of a schema, type or field."""

PYTHON_TYPES: Final[Mapping[object, type]] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
}
"""Leaf types whose values need no conversion if they are exactly of this Python class."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation, its fragments, and the schema that executes it."""

    schema: GraphQLSchema
    definition: OperationDefinitionNode
    fragments: dict[str, FragmentDefinitionNode]
    hide_suggestions: bool


@dataclass(eq=False)
class Field(ABC):
    """A field of the response: all that its nodes fix, for one type of its parent object."""

    parent_type: GraphQLObjectType
    details: list[FieldDetails]
    definition: GraphQLField

    def __post_init__(self) -> None:
        node = self.details[0].node
        self.name = node.name.value
        self._key = (node.alias or node.name).value

    @property
    def nodes(self) -> list[FieldNode]:
        """Return the field's nodes in a new list."""
        return [detail.node for detail in self.details]

    def path(self, parent_path: Path | None) -> Path:
        """Return the path of the field's value."""
        return Path(parent_path, self._key, self.parent_type.name)

    @abstractmethod
    def execute_selection_set(
        self, type_: GraphQLObjectType, run: "Run", value: object, path: Path
    ) -> object:
        """Return the values selected of an object of this type, or a coroutine of them."""


@dataclass(slots=True, eq=False)
class Run:
    """One execution of an operation: its context, its variables, and its errors so far."""

    operation: Operation
    context: object
    variables: VariableValues
    errors: CollectedErrors = field(default_factory=CollectedErrors)

    def info(self, field: Field, path: Path) -> GraphQLResolveInfo[object]:
        """Return the info of a field, given the path of its value or of an item in it."""
        operation = self.operation
        while isinstance(path.key, int) and path.prev is not None:
            path = path.prev
        return GraphQLResolveInfo(
            field.name,
            field.nodes,
            field.definition.type,
            field.parent_type,
            path,
            operation.schema,
            operation.fragments,
            None,
            operation.definition,
            self.variables,
            self.context,
            is_awaitable,
            None,
            _INFO_HELPERS,
        )

    def executor(self) -> Executor[object]:
        """Return an executor of graphql-core that adds its errors to those of this run."""
        operation = self.operation
        executor: Executor[object] = Executor(
            operation.schema,
            operation.fragments,
            {name: FragmentDetails(fragment) for name, fragment in operation.fragments.items()},
            None,
            self.context,
            operation.definition,
            self.variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            hide_suggestions=operation.hide_suggestions,
        )
        executor.collected_errors = self.errors
        return executor


def _track(values: Sequence[object]) -> None:
    awaitables = [value for value in values if is_awaitable(value)]
    if awaitables:
        settle_in_background(awaitables)


_INFO_HELPERS: Final = GraphQLResolveInfoHelpers(
    gather=lambda values: gather_with_cancel(*values), track=_track
)
