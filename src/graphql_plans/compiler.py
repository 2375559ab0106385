"""Compile the operations of a document into plans."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import CoroutineType
from typing import Final, TypeAlias, cast

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DocumentNode,
    ExecutableDefinitionNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)

from graphql_plans.execution import Operation, Run
from graphql_plans.fields import FieldDefinitions, SelectionSet
from graphql_plans.selections import Grow, root_selection_set
from graphql_plans.variables import variables_coercer

Result: TypeAlias = ExecutionResult | Awaitable[ExecutionResult]
Execute = Callable[[dict[str, object], object], Result]
"""Executes an operation with the variables and the context of a request."""

MAX_CONDITIONS: Final = 4
"""Most variables in `@skip` and `@include`: each may double the plans of an operation."""

# The parts of a plan before any of its fields is planned.
_INITIAL_PARTS: Final = 4


class Compiler:
    """Compiles the operations of one schema."""

    def __init__(self, schema: GraphQLSchema, *, hide_suggestions: bool) -> None:
        self._schema: Final = schema
        self._hide_suggestions: Final = hide_suggestions
        self._definitions: Final = FieldDefinitions(schema)
        self._is_incremental: Final = any(map(schema.get_directive, ("defer", "stream")))

    def compile(
        self, document: DocumentNode, operation_name: str | None, fallback: Execute, grow: Grow
    ) -> Execute:
        """Return a plan of an operation, or the fallback if the operation is not covered.

        A plan has the same results as the fallback, which executes the operation by graphql-core.
        Not covered are introspection, subscriptions, incremental delivery, directives other than
        `@skip` and `@include`, and more than `MAX_CONDITIONS` variables in these two.

        Args:
            document: a valid document.
            operation_name: the operation's name; may be None if the document has only one.
            fallback: executes the operation by graphql-core.
            grow: receives the number of parts added to the plan, now and in later executions.
        """
        operation = self._operation(document, operation_name)
        if operation is None or self._is_incremental:
            return fallback
        conditions = _conditions(document, operation.definition)
        root_type = self._schema.get_root_type(operation.definition.operation)
        if conditions is None or len(conditions) > MAX_CONDITIONS or root_type is None:
            return fallback

        def plan_root(values: dict[str, bool]) -> SelectionSet:
            return root_selection_set(operation, values, self._definitions, grow, root_type)

        variables = operation.definition.variable_definitions or ()
        grow(_INITIAL_PARTS + len(operation.fragments) + len(variables))
        return _plan(operation, conditions, fallback, plan_root)

    def _operation(self, document: DocumentNode, name: str | None) -> Operation | None:
        """Return the operation of a name; None if it is ambiguous, or not covered."""
        definitions = document.definitions
        fragments = [each for each in definitions if isinstance(each, FragmentDefinitionNode)]
        operations = [
            each
            for each in definitions
            if isinstance(each, OperationDefinitionNode)
            and (name is None or (each.name is not None and each.name.value == name))
        ]
        if (
            len(operations) != 1
            or operations[0].directives
            or operations[0].operation is OperationType.SUBSCRIPTION
            or any(fragment.variable_definitions or fragment.directives for fragment in fragments)
        ):
            return None
        by_name = {fragment.name.value: fragment for fragment in fragments}
        return Operation(self._schema, operations[0], by_name, self._hide_suggestions)


def _conditions(
    document: DocumentNode, operation: OperationDefinitionNode
) -> tuple[str, ...] | None:
    """Return the operation's variables in `@skip` and `@include`; None if it is not covered.

    Variables of the document's other operations are left out: they have no values here.
    """
    found: set[str] = set()
    selections: list[SelectionNode] = [
        selection
        for definition in document.definitions
        if isinstance(definition, ExecutableDefinitionNode)
        for selection in definition.selection_set.selections
    ]
    while selections:
        selection = selections.pop()
        if isinstance(selection, FieldNode) and selection.name.value in {"__schema", "__type"}:
            return None
        for directive in selection.directives or ():
            if directive.name.value not in {"skip", "include"}:
                return None
            match directive.arguments:
                case [ArgumentNode(value=VariableNode(name=variable))]:
                    found.add(variable.value)
                case [ArgumentNode(value=BooleanValueNode())]:
                    pass
                case _:
                    return None
        nested = getattr(selection, "selection_set", None)
        if isinstance(nested, SelectionSetNode):
            selections.extend(nested.selections)
    defined = {each.variable.name.value for each in operation.variable_definitions or ()}
    return tuple(sorted(found & defined))


def _plan(
    operation: Operation,
    conditions: tuple[str, ...],
    fallback: Execute,
    plan_root: Callable[[dict[str, bool]], SelectionSet],
) -> Execute:
    """Return the plan of an operation. It has a root for each set of values of its conditions."""
    is_mutation = operation.definition.operation is OperationType.MUTATION
    coerce = variables_coercer(operation)
    roots: dict[tuple[object, ...], SelectionSet] = {}

    def root_for(variables: dict[str, object]) -> SelectionSet | None:
        """Return the root's selection set; None if a condition is null or the nesting too deep."""
        values = tuple(map(variables.get, conditions))
        root = roots.get(values)
        if root is None and all(isinstance(value, bool) for value in values):
            booleans = dict(zip(conditions, cast(tuple[bool, ...], values), strict=True))
            with suppress(RecursionError):
                root = roots[values] = plan_root(booleans)
        return root

    def execute(variables: dict[str, object], context: object) -> Result:
        coerced = coerce(variables)
        if isinstance(coerced, list):
            return ExecutionResult(None, coerced)
        root = root_for(coerced.coerced)
        if root is None:
            return fallback(variables, context)
        run = Run(operation, context, coerced)
        try:
            data = root.execute_serially(run) if is_mutation else root.execute(run, None, None)
        except GraphQLError as error:
            return _failed(run, error)
        if isinstance(data, CoroutineType):
            return _await_result(run, data)
        return ExecutionResult(cast(dict[str, object], data), run.errors.errors or None)

    return execute


async def _await_result(run: Run, data: Awaitable[object]) -> ExecutionResult:
    try:
        completed = await data
    except GraphQLError as error:
        return _failed(run, error)
    return ExecutionResult(cast(dict[str, object], completed), run.errors.errors or None)


def _failed(run: Run, error: GraphQLError) -> ExecutionResult:
    run.errors.add(error, None)
    return ExecutionResult(None, run.errors.errors)
