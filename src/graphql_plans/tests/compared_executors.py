"""Execute a request by a plan and by graphql-core, and compare their results."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

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

from graphql_plans import Compiler, Execute, Result

# A value of a variable, of any shape.
Json = Any

# Generated documents may have unused fragments and variables: they do not change the execution.
_RULES = [
    rule for rule in specified_rules if rule not in {NoUnusedFragmentsRule, NoUnusedVariablesRule}
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The parts of a result that a caller can see, including the order of keys and of errors."""

    data: str
    errors: tuple[object, ...]
    context: str
    result: ExecutionResult = field(compare=False)


def parse_valid(schema: GraphQLSchema, text: str) -> DocumentNode | None:
    """Parse a document; return None if it is invalid."""
    document = parse(text)
    return None if validate(schema, document, _RULES) else document


def reference_of(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool = False
) -> Execute:
    """Return the execution of a document by graphql-core."""

    def execute_reference(variables: dict[str, Json], context: object) -> Result:
        return execute(
            schema,
            document,
            context_value=context,
            variable_values=variables,
            executor_class=Executor,
            hide_suggestions=hide_suggestions,
        )

    return execute_reference


def plan_of(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool = False
) -> Execute:
    """Return the plan of a document, or its reference if plans do not cover it."""
    reference = reference_of(schema, document, hide_suggestions=hide_suggestions)
    compiler = Compiler(schema, hide_suggestions=hide_suggestions)
    return compiler.compile(document, None, reference, lambda _: None)


def is_planned(execute_operation: Execute) -> bool:
    """Return whether this is a plan, and not its reference."""
    return execute_operation.__name__ != "execute_reference"


def assert_same_outcome(
    schema: GraphQLSchema,
    text: str,
    variables: dict[str, Json],
    new_context: Callable[[], object],
    show_context: Callable[[Any], str] = repr,
) -> ExecutionResult | None:
    """Execute a request by a plan and by its reference; return the result, or None if invalid.

    Each execution has its own context, and `show_context` returns the changes made to it.
    """
    document = parse_valid(schema, text)
    if document is None:
        return None
    # One plan serves all variables of a document, so it executes other values first.
    others = {
        name: not value if isinstance(value, bool) else value for name, value in variables.items()
    }
    reference, plan = reference_of(schema, document), plan_of(schema, document)

    async def outcome(execute_operation: Execute, values: dict[str, Json]) -> Outcome:
        context = new_context()
        result = execute_operation(values, context)
        completed = await result if isinstance(result, Awaitable) else result
        # The siblings of a failed field run to their end in the background.
        for _ in range(5):
            await asyncio.sleep(0)
        errors = tuple(map(_visible, completed.errors or ()))
        return Outcome(repr(completed.data), errors, show_context(context), completed)

    async def compare() -> ExecutionResult:
        outcomes = [
            (await outcome(reference, values), await outcome(plan, values))
            for values in (others, variables, variables)
        ]
        for expected, found in outcomes:
            assert found == expected, f"{text}\n{variables}"
        return outcomes[-1][0].result

    return asyncio.run(compare())


def _visible(error: GraphQLError) -> object:
    return (
        error.message,
        tuple(error.path or ()),
        tuple(error.locations or ()),
        repr(error.extensions),
        type(error.original_error),
    )
