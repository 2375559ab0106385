"""One request, executed by a plan and by graphql-core: the same must come of both."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLSchema,
    execute,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import NoUnusedFragmentsRule, NoUnusedVariablesRule

from contact_gateway.faces.graphql.types import GraphQLContext
from graphql_plans import Compiler, Execute, Result
from support.faces import Json

# A generated document may define what it does not use: that changes nothing in its execution.
_RULES = [
    rule for rule in specified_rules if rule not in {NoUnusedFragmentsRule, NoUnusedVariablesRule}
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller may see of a result, the order of keys and of errors included."""

    data: str
    errors: tuple[object, ...]
    context: str


def read(schema: GraphQLSchema, text: str) -> DocumentNode | None:
    """Parse a document; None where it is not valid."""
    document = parse(text)
    return None if validate(schema, document, _RULES) else document


def by_graphql_core(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool = False
) -> Execute:
    """Return what executes a document by graphql-core."""

    def execute_by_reference(variables: dict[str, Json], context: object) -> Result:
        return execute(
            schema,
            document,
            context_value=context,
            variable_values=variables,
            executor_class=Executor,
            hide_suggestions=hide_suggestions,
        )

    return execute_by_reference


def by_plan(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool = False
) -> Execute:
    """Return what executes a document by a plan."""
    reference = by_graphql_core(schema, document, hide_suggestions=hide_suggestions)
    compiler = Compiler(schema, hide_suggestions=hide_suggestions)
    return compiler.compile(document, None, reference, _ignore)


def _ignore(_: int) -> None:
    """Let plans grow."""


def is_planned(execute_operation: Execute) -> bool:
    """Tell whether a plan executes an operation, and not graphql-core."""
    return execute_operation.__name__ != "execute_by_reference"


def check_that_both_agree(
    schema: GraphQLSchema,
    text: str,
    variables: dict[str, Json] | None = None,
    context: Callable[[], object] = lambda: None,
) -> ExecutionResult | None:
    """Execute a request both ways, by the plan twice; return the result, if it is valid."""
    document = read(schema, text)
    if document is None:
        return None
    given = variables or {}
    # A plan serves any values of the variables of one document, and one after the other.
    others = {
        name: not value if isinstance(value, bool) else value for name, value in given.items()
    }
    reference, plan = by_graphql_core(schema, document), by_plan(schema, document)
    result = None
    for values in (others, given, given):
        expected, result = _outcome(reference, values, context)
        found, _ = _outcome(plan, values, context)
        assert found == expected, f"{text}\n{values}"
    return result


def _outcome(
    execute_operation: Execute, variables: dict[str, Json], context: Callable[[], object]
) -> tuple[Outcome, ExecutionResult]:
    seen = context()

    async def run() -> ExecutionResult:
        result = execute_operation(variables, seen)
        completed = await result if isinstance(result, Awaitable) else result
        # What was begun beside a failed field goes on in the background.
        for _ in range(5):
            await asyncio.sleep(0)
        return completed

    result = asyncio.run(run())
    errors = tuple(_told(error) for error in result.errors or ())
    return Outcome(repr(result.data), errors, _seen(seen)), result


def _seen(context: object) -> str:
    if isinstance(context, GraphQLContext):
        return f"{context.request.operation} {context.request.outcome}"
    return repr(context)


def _told(error: GraphQLError) -> object:
    return (
        error.message,
        tuple(error.path or ()),
        tuple(error.locations or ()),
        repr(error.extensions),
        type(error.original_error),
    )
