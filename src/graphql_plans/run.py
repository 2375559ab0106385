"""What belongs to one execution of an operation."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from types import CoroutineType
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from graphql import (
    FragmentDefinitionNode,
    GraphQLResolveInfo,
    GraphQLSchema,
    default_field_resolver,
    default_type_resolver,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.executor import CollectedErrors
from graphql.execution.values import VariableValues
from graphql.language import OperationDefinitionNode
from graphql.pyutils import Path, gather_with_cancel, is_awaitable
from graphql.type import GraphQLResolveInfoHelpers

if TYPE_CHECKING:
    from graphql_plans.fields import Field


_K = TypeVar("_K", contravariant=True)  # noqa: PLC0105 - a key, of a field or of an item


@dataclass(frozen=True, slots=True)
class Operation:
    """What is executed, on which schema."""

    schema: GraphQLSchema
    definition: OperationDefinitionNode
    fragments: dict[str, FragmentDefinitionNode]
    hide_suggestions: bool


@dataclass(slots=True, eq=False)
class Run:
    """One execution: its caller's context and variables, and the errors so far."""

    operation: Operation
    context: object
    variables: VariableValues
    errors: CollectedErrors = field(default_factory=CollectedErrors)

    def info(self, of: "Field", path: Path) -> GraphQLResolveInfo[object]:
        """Return what a resolver may ask about a field, given its path or that of an item of it."""
        operation = self.operation
        while isinstance(path.key, int) and path.prev is not None:
            path = path.prev
        return GraphQLResolveInfo(
            of.name,
            of.nodes,
            of.definition.type,
            of.parent_type,
            path,
            operation.schema,
            operation.fragments,
            None,
            operation.definition,
            self.variables,
            self.context,
            is_awaitable,
            None,
            _HELPERS,
        )

    def executor(self) -> Executor[object]:
        """Return an executor of graphql-core that goes on from here, with the same errors."""
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


class _Results(Protocol[_K]):
    def __getitem__(self, key: _K, /) -> object: ...
    def __setitem__(self, key: _K, value: object, /) -> None: ...


async def gathered(results: _Results[_K], awaited: Sequence[_K]) -> object:
    """Await those of the results that are still coroutines, side by side; return all of them."""
    if len(awaited) == 1:
        key = awaited[0]
        results[key] = await cast(Awaitable[object], results[key])
        return results
    values = await gather_with_cancel(*(cast(Awaitable[object], results[key]) for key in awaited))
    for key, value in zip(awaited, values, strict=True):
        results[key] = value
    return results


def settle(awaitables: Sequence[Awaitable[object]]) -> None:
    """Let finish what was begun beside a field that failed; nobody sees what comes of it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        for awaitable in awaitables:
            if isinstance(awaitable, CoroutineType):
                awaitable.close()
        return
    future = asyncio.gather(*awaitables, return_exceptions=True)
    _under_way.add(future)
    future.add_done_callback(_under_way.discard)


def _track(values: Sequence[object]) -> None:
    awaitables = [value for value in values if is_awaitable(value)]
    if awaitables:
        settle(awaitables)


# The event loop alone would let go of them.
_under_way: Final[set[asyncio.Future[list[object]]]] = set()
_HELPERS: Final = GraphQLResolveInfoHelpers(
    gather=lambda values: gather_with_cancel(*values), track=_track
)
