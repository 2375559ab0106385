"""Values are completed by their types: checked, written, and their own fields executed.

Source: the GraphQL specification, sections 6.4.3 and 6.4.4.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Final, cast

from graphql import (
    GraphQLAbstractType,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLUnionType,
    Undefined,
    default_type_resolver,
    located_error,
)
from graphql.execution import Executor
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import Path, is_awaitable, is_iterable

from graphql_plans.leaves import PYTHON_TYPES
from graphql_plans.run import Run, gathered, settle
from graphql_plans.runtime_types import RuntimeTypes, is_surely

if TYPE_CHECKING:
    from graphql_plans.fields import Field

Complete = Callable[[Run, "Field", object, Path], object]
"""Returns the completed value, or a coroutine of it; raises what is wrong with it."""


def completer_of(type_: GraphQLOutputType) -> Complete:
    """Return what completes values of a type."""
    match type_:
        case GraphQLNonNull():
            return _non_null(completer_of(type_.of_type))
        case GraphQLList():
            return _nullable(_list(type_, completer_of(type_.of_type)))
        case GraphQLObjectType():
            return _nullable(_object(type_))
        case GraphQLInterfaceType() | GraphQLUnionType():
            return _nullable(_abstract(type_))
        case _:
            return _leaf(type_)


def _non_null(complete: Complete) -> Complete:
    def complete_non_null(run: Run, field: "Field", value: object, path: Path) -> object:
        completed = complete(run, field, value, path)
        if completed is None:
            raise TypeError(
                f"Cannot return null for non-nullable field {field.parent_type}.{field.name}."
            )
        return completed

    return complete_non_null


def _nullable(complete: Complete) -> Complete:
    def complete_nullable(run: Run, field: "Field", value: object, path: Path) -> object:
        if isinstance(value, Exception):
            raise value
        return None if value is None or value is Undefined else complete(run, field, value, path)

    return complete_nullable


def _leaf(type_: GraphQLLeafType) -> Complete:
    as_it_is = PYTHON_TYPES.get(type_)

    def complete_leaf(_run: Run, _field: "Field", value: object, _path: Path) -> object:
        if type(value) is as_it_is:
            return value
        if isinstance(value, Exception):
            raise value
        if value is None or value is Undefined:
            return None
        completed: object = Executor.complete_leaf_value(type_, value)
        if is_awaitable(completed) and not isinstance(completed, CoroutineType):
            return _awaited(completed)
        return completed

    return complete_leaf


async def _awaited(value: Awaitable[object]) -> object:
    return await value


def _object(type_: GraphQLObjectType) -> Complete:
    def complete_object(run: Run, field: "Field", value: object, path: Path) -> object:
        return _complete_object(type_, run, field, value, path)

    return complete_object


def _complete_object(
    type_: GraphQLObjectType, run: Run, field: "Field", value: object, path: Path
) -> object:
    if type_.is_type_of is not None and not is_surely(type_, value):
        is_of_type = type_.is_type_of(value, run.info(field, path))
        if is_awaitable(is_of_type):

            async def complete_once_checked() -> object:
                if not await is_of_type:
                    raise invalid_return_type_error(type_, value, field.details)
                completed = field.selection_set(type_).execute(run, value, path)
                return await completed if isinstance(completed, CoroutineType) else completed

            return complete_once_checked()
        if not is_of_type:
            raise invalid_return_type_error(type_, value, field.details)
    return field.selection_set(type_).execute(run, value, path)


def _abstract(type_: GraphQLAbstractType) -> Complete:
    resolve_type = type_.resolve_type or default_type_resolver
    known = RuntimeTypes(type_)

    def complete_as(name: object, run: Run, field: "Field", value: object, path: Path) -> object:
        executor = run.executor()
        object_type = executor.ensure_valid_runtime_type(
            name, type_, field.details, run.info(field, path), value
        )
        known.keep(value, object_type)
        return _complete_object(object_type, run, field, value, path)

    async def complete_once_resolved(
        name: Awaitable[object], run: Run, field: "Field", value: object, path: Path
    ) -> object:
        completed = complete_as(await name, run, field, value, path)
        return await completed if isinstance(completed, CoroutineType) else completed

    def complete_abstract(run: Run, field: "Field", value: object, path: Path) -> object:
        object_type = known.get(value)
        if object_type is not None:
            return _complete_object(object_type, run, field, value, path)
        name = resolve_type(value, run.info(field, path), type_)
        if is_awaitable(name):
            return complete_once_resolved(name, run, field, value, path)
        return complete_as(name, run, field, value, path)

    return complete_abstract


def _list(type_: GraphQLList[GraphQLOutputType], complete: Complete) -> Complete:
    is_non_null = isinstance(type_.of_type, GraphQLNonNull)
    items = _Items(Position(complete, is_non_null=is_non_null))

    def complete_list(run: Run, field: "Field", value: object, path: Path) -> object:
        if hasattr(value, "__aiter__"):
            # An asynchronous iterable is rare enough to be left to graphql-core with all in it.
            info = run.info(field, path)
            return run.executor().complete_list_value(type_, field.details, info, path, value, None)
        if not is_iterable(value):
            raise GraphQLError(
                "Expected Iterable, but did not find one for field "
                f"'{field.parent_type}.{field.name}'."
            )
        return items.complete(run, field, iter(value), path)

    return complete_list


class _Items:
    """Completes the items of a list."""

    def __init__(self, position: "Position") -> None:
        self._position: Final = position

    def complete(self, run: Run, field: "Field", items: Iterator[object], path: Path) -> object:
        """Return the completed items, or a coroutine of them."""
        completed: list[object] = []
        awaited: list[int] = []
        try:
            for index, item in enumerate(items):
                result = self._position.finish(run, field, item, Path(path, index, None))
                completed.append(result)
                if isinstance(result, CoroutineType):
                    awaited.append(index)
        except Exception:
            pending = [cast(Awaitable[object], completed[index]) for index in awaited]
            with suppress(Exception):
                pending.extend(item for item in items if is_awaitable(item))
            if pending:
                settle(pending)
            raise
        return gathered(completed, awaited) if awaited else completed


class Position:
    """Where a value stands, in a field or as an item: what completes it, and whether it may fail.

    What fails there becomes a null, or the parent's failure (section 6.4.4).
    """

    def __init__(self, complete: Complete, *, is_non_null: bool) -> None:
        self._complete: Final = complete
        self._is_non_null: Final = is_non_null

    def finish(self, run: Run, field: "Field", value: object, path: Path) -> object:
        """Return the completed value, or a coroutine of it.

        Raises:
            GraphQLError: it has failed, and no null may stand there.
        """
        try:
            if is_awaitable(value):
                return self._finish_awaited(run, field, value, path)
            completed = self._complete(run, field, value, path)
        except Exception as error:  # noqa: BLE001 - whatever a value raises is told as an error
            return self.fail(run, field, error, path)
        if isinstance(completed, CoroutineType):
            return self._await_completed(run, field, completed, path)
        return completed

    def fail(self, run: Run, field: "Field", error: Exception, path: Path) -> object:
        """Note an error and return null, where that may stand.

        Raises:
            GraphQLError: none may, so it is the parent's.
        """
        located = located_error(error, field.nodes, path.as_list())
        if self._is_non_null:
            raise located
        run.errors.add(located, path)
        return None

    async def _finish_awaited(
        self, run: Run, field: "Field", value: Awaitable[object], path: Path
    ) -> object:
        try:
            completed = self._complete(run, field, await value, path)
            return await completed if isinstance(completed, CoroutineType) else completed
        except Exception as error:  # noqa: BLE001 - whatever a value raises is told as an error
            return self.fail(run, field, error, path)

    async def _await_completed(
        self, run: Run, field: "Field", completed: Awaitable[object], path: Path
    ) -> object:
        try:
            return await completed
        except Exception as error:  # noqa: BLE001 - whatever a value raises is told as an error
            return self.fail(run, field, error, path)
