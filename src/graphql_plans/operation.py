"""Operations: what of one is fixed ahead, and how it is executed."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import CoroutineType
from typing import Final, TypeAlias, cast

from graphql import (
    BooleanValueNode,
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    Node,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    VariableNode,
)
from graphql.language import SelectionSetNode

from graphql_plans.fields import SelectionSet
from graphql_plans.resolvers import Resolvers
from graphql_plans.run import Operation, Run
from graphql_plans.selections import Grow, Selections
from graphql_plans.variables import Variables

Result: TypeAlias = ExecutionResult | Awaitable[ExecutionResult]
Execute = Callable[[dict[str, object], object], Result]
"""Executes an operation with the variables and the context of a request."""

# Each may double the plans of an operation.
MAX_CONDITIONS: Final = 4
# What an operation takes before any field of it is made, in parts of a plan.
_PARTS_OF_ANY: Final = 4
_CONDITIONS: Final = frozenset({"skip", "include"})
_INCREMENTAL: Final = ("defer", "stream")
_INTROSPECTION: Final = frozenset({"__schema", "__type"})


class Compiler:
    """Compiles the operations of one schema; what they have in common is made once."""

    def __init__(self, schema: GraphQLSchema, *, hide_suggestions: bool) -> None:
        self._schema: Final = schema
        self._hide_suggestions: Final = hide_suggestions
        self._resolvers: Final = Resolvers(schema)

    def compile(
        self,
        document: DocumentNode,
        operation_name: str | None,
        by_reference: Execute,
        grow: Grow,
    ) -> Execute:
        """Return what executes an operation of a valid document as `by_reference` does, and faster.

        `by_reference` executes it by graphql-core. It is returned itself where something is not
        covered: introspection, subscriptions, incremental delivery, directives of an operation,
        other directives than `@skip` and `@include`, and more than a few variables in those.
        `grow` is told of all that the plan is made of, now and later.
        """
        schema = self._schema
        operation = _operation(
            schema, document, operation_name, hide_suggestions=self._hide_suggestions
        )
        if operation is None or any(schema.get_directive(name) for name in _INCREMENTAL):
            return by_reference
        conditions = _conditions(document, operation.definition)
        if conditions is None or len(conditions) > MAX_CONDITIONS:
            return by_reference
        return _Plan(
            operation, tuple(sorted(conditions)), by_reference, self._resolvers, grow
        ).execute


def _operation(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation_name: str | None,
    *,
    hide_suggestions: bool,
) -> Operation | None:
    """Return the operation that is asked for; None where it is not clear, or not covered."""
    definitions = document.definitions
    fragments = [each for each in definitions if isinstance(each, FragmentDefinitionNode)]
    named = [
        each
        for each in definitions
        if isinstance(each, OperationDefinitionNode)
        and (
            operation_name is None or (each.name is not None and each.name.value == operation_name)
        )
    ]
    if len(named) != 1 or named[0].directives or named[0].operation is OperationType.SUBSCRIPTION:
        return None
    if any(fragment.variable_definitions or fragment.directives for fragment in fragments):
        return None
    return Operation(
        schema,
        named[0],
        {fragment.name.value: fragment for fragment in fragments},
        hide_suggestions,
    )


def _conditions(document: DocumentNode, operation: OperationDefinitionNode) -> set[str] | None:
    """Return the operation's variables in `@skip` and `@include`; None where other things stand.

    A valid operation defines all that it reaches; those of other operations have no values in it.
    """
    found: set[str] = set()
    for selection in _selections(document):
        if isinstance(selection, FieldNode) and selection.name.value in _INTROSPECTION:
            return None
        for directive in selection.directives or ():
            arguments = directive.arguments or ()
            if directive.name.value not in _CONDITIONS or len(arguments) != 1:
                return None
            match arguments[0].value:
                case VariableNode(name=name):
                    found.add(name.value)
                case BooleanValueNode():
                    pass
                case _:
                    return None
    return found & {each.variable.name.value for each in operation.variable_definitions or ()}


def _selections(document: DocumentNode) -> Iterator[SelectionNode]:
    waiting: list[Node] = list(document.definitions)
    while waiting:
        node = waiting.pop()
        selection_set = getattr(node, "selection_set", None)
        if isinstance(selection_set, SelectionSetNode):
            yield from selection_set.selections
            waiting.extend(selection_set.selections)


class _Plan:
    """The plan of one operation, for each of the values of its conditions that were met."""

    def __init__(
        self,
        operation: Operation,
        conditions: tuple[str, ...],
        by_reference: Execute,
        resolvers: Resolvers,
        grow: Grow,
    ) -> None:
        self._operation: Final = operation
        self._conditions: Final = conditions
        self._by_reference: Final = by_reference
        self._variables: Final = Variables(operation)
        self._resolvers: Final = resolvers
        self._grow: Final = grow
        self._roots: Final[dict[tuple[bool, ...], SelectionSet]] = {}
        variables = operation.definition.variable_definitions or ()
        grow(_PARTS_OF_ANY + len(operation.fragments) + len(variables))

    def execute(self, variables: dict[str, object], context: object) -> Result:
        """Execute the operation."""
        coerced = self._variables.coerce(variables)
        if isinstance(coerced, list):
            return ExecutionResult(None, coerced)
        root = self._root(coerced.coerced)
        if root is None:
            return self._by_reference(variables, context)
        run = Run(self._operation, context, coerced)
        try:
            if self._operation.definition.operation is OperationType.MUTATION:
                data = root.execute_serially(run, None)
            else:
                data = root.execute(run, None, None)
        except GraphQLError as error:
            return _failed(run, error)
        if isinstance(data, CoroutineType):
            return _result(run, data)
        return ExecutionResult(cast(dict[str, object], data), run.errors.errors or None)

    def _root(self, variables: Mapping[str, object]) -> SelectionSet | None:
        """Return what is selected of the root; None where that is not plainly told."""
        values = self._values(variables) if self._conditions else ()
        if values is None:
            return None
        found = self._roots.get(values)
        if found is None:
            found = self._make_root(dict(zip(self._conditions, values, strict=True)))
            if found is not None:
                self._roots[values] = found
        return found

    def _values(self, variables: Mapping[str, object]) -> tuple[bool, ...] | None:
        values = [variables.get(name) for name in self._conditions]
        booleans = tuple(value for value in values if isinstance(value, bool))
        return booleans if len(booleans) == len(values) else None

    def _make_root(self, conditions: Mapping[str, bool]) -> SelectionSet | None:
        operation = self._operation
        root_type = operation.schema.get_root_type(operation.definition.operation)
        if not isinstance(root_type, GraphQLObjectType):
            return None
        try:
            selections = Selections(operation, conditions, self._resolvers, self._grow)
            return selections.of_root(root_type)
        except RecursionError:
            return None


async def _result(run: Run, data: Awaitable[object]) -> ExecutionResult:
    try:
        completed = await data
    except GraphQLError as error:
        return _failed(run, error)
    return ExecutionResult(cast(dict[str, object], completed), run.errors.errors or None)


def _failed(run: Run, error: GraphQLError) -> ExecutionResult:
    run.errors.add(error, None)
    return ExecutionResult(None, run.errors.errors)
