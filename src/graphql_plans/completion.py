"""Complete values by their types: check and serialize them, and execute their selection sets.

Source: the GraphQL specification, sections 6.4.3 and 6.4.4.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CoroutineType
from typing import Final, cast

from graphql import (
    Executor,
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
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import Path, is_awaitable, is_iterable

from graphql_plans.concurrency import gather_results, settle_in_background
from graphql_plans.execution import PYTHON_TYPES, Field, Run
from graphql_plans.runtime_types import RuntimeTypes, is_exact_instance

Complete = Callable[[Run, Field, object, Path], object]
"""Returns the completed value of a value that is not null, or a coroutine of it."""


class Completer:
    """Completes the values of a type, in a field or in a list.

    An error becomes null in the response. If the type is non-null, the error propagates to the
    parent (section 6.4.4).
    """

    def __init__(self, type_: GraphQLOutputType) -> None:
        self._is_non_null: Final = isinstance(type_, GraphQLNonNull)
        self._complete: Final = _completer(type_)

    def complete(self, run: Run, field: Field, value: object, path: Path) -> object:
        """Return the completed value, or a coroutine of it.

        Raises:
            GraphQLError: the value has an error, and its type is non-null.
        """
        try:
            if is_awaitable(value):
                return self._await_value(run, field, value, path)
            completed = self._complete_resolved(run, field, value, path)
        except Exception as error:  # noqa: BLE001 - any error of a value is reported to the caller
            return self.handle_error(run, field, error, path)
        if isinstance(completed, CoroutineType):
            return self._await_completed(run, field, completed, path)
        return completed

    def complete_items(self, run: Run, field: Field, items: Iterator[object], path: Path) -> object:
        """Return the completed items of a list at this path, or a coroutine of them."""
        completed: list[object] = []
        pending: list[int] = []
        try:
            for index, item in enumerate(items):
                result = self.complete(run, field, item, Path(path, index, None))
                completed.append(result)
                if isinstance(result, CoroutineType):
                    pending.append(index)
        except Exception:
            unsettled = [cast(Awaitable[object], completed[index]) for index in pending]
            with suppress(Exception):
                unsettled.extend(item for item in items if is_awaitable(item))
            if unsettled:
                settle_in_background(unsettled)
            raise
        return gather_results(completed, pending) if pending else completed

    def handle_error(self, run: Run, field: Field, error: Exception, path: Path) -> object:
        """Collect an error and return null.

        Raises:
            GraphQLError: the type is non-null.
        """
        located = located_error(error, field.nodes, path.as_list())
        if self._is_non_null:
            raise located
        run.errors.add(located, path)
        return None

    def _complete_resolved(self, run: Run, field: Field, value: object, path: Path) -> object:
        if isinstance(value, Exception):
            raise value
        completed = (
            None if value is None or value is Undefined else self._complete(run, field, value, path)
        )
        if completed is None and self._is_non_null:
            raise TypeError(
                f"Cannot return null for non-nullable field {field.parent_type}.{field.name}."
            )
        return completed

    async def _await_value(
        self, run: Run, field: Field, value: Awaitable[object], path: Path
    ) -> object:
        try:
            completed = self._complete_resolved(run, field, await value, path)
            return await completed if isinstance(completed, CoroutineType) else completed
        except Exception as error:  # noqa: BLE001 - any error of a value is reported to the caller
            return self.handle_error(run, field, error, path)

    async def _await_completed(
        self, run: Run, field: Field, completed: Awaitable[object], path: Path
    ) -> object:
        try:
            return await completed
        except Exception as error:  # noqa: BLE001 - any error of a value is reported to the caller
            return self.handle_error(run, field, error, path)


def _completer(type_: GraphQLOutputType) -> Complete:
    match type_:
        case GraphQLNonNull():
            return _completer(type_.of_type)
        case GraphQLList():
            return list_completer(type_)
        case GraphQLObjectType():
            return partial(complete_object, type_)
        case GraphQLInterfaceType() | GraphQLUnionType():
            return abstract_completer(type_)
        case _:
            return leaf_completer(type_)


def list_completer(type_: GraphQLList[GraphQLOutputType]) -> Complete:
    """Return the completer of a list."""
    items = Completer(type_.of_type)

    def complete_list(run: Run, field: Field, value: object, path: Path) -> object:
        if hasattr(value, "__aiter__"):
            # Asynchronous iterables are rare: graphql-core completes them and all they contain.
            info = run.info(field, path)
            return run.executor().complete_list_value(type_, field.details, info, path, value, None)
        if not is_iterable(value):
            raise GraphQLError(
                "Expected Iterable, but did not find one for field "
                f"'{field.parent_type}.{field.name}'."
            )
        return items.complete_items(run, field, iter(value), path)

    return complete_list


def complete_object(
    type_: GraphQLObjectType, run: Run, field: Field, value: object, path: Path
) -> object:
    """Return the values selected of an object, or a coroutine of them."""
    if type_.is_type_of is not None and not is_exact_instance(type_, value):
        is_of_type = type_.is_type_of(value, run.info(field, path))
        if is_awaitable(is_of_type):

            async def await_check() -> object:
                if not await is_of_type:
                    raise invalid_return_type_error(type_, value, field.details)
                completed = field.execute_selection_set(type_, run, value, path)
                return await completed if isinstance(completed, CoroutineType) else completed

            return await_check()
        if not is_of_type:
            raise invalid_return_type_error(type_, value, field.details)
    return field.execute_selection_set(type_, run, value, path)


def abstract_completer(type_: GraphQLAbstractType) -> Complete:
    """Return the completer of an interface or a union."""
    resolve_type = type_.resolve_type or default_type_resolver
    types = RuntimeTypes(type_)

    def complete_as(name: object, run: Run, field: Field, value: object, path: Path) -> object:
        object_type = run.executor().ensure_valid_runtime_type(
            name, type_, field.details, run.info(field, path), value
        )
        types.add(value, object_type)
        return complete_object(object_type, run, field, value, path)

    async def await_type(
        name: Awaitable[object], run: Run, field: Field, value: object, path: Path
    ) -> object:
        completed = complete_as(await name, run, field, value, path)
        return await completed if isinstance(completed, CoroutineType) else completed

    def complete_abstract(run: Run, field: Field, value: object, path: Path) -> object:
        object_type = types.get(value)
        if object_type is not None:
            return complete_object(object_type, run, field, value, path)
        name = resolve_type(value, run.info(field, path), type_)
        if is_awaitable(name):
            return await_type(name, run, field, value, path)
        return complete_as(name, run, field, value, path)

    return complete_abstract


def leaf_completer(type_: GraphQLLeafType) -> Complete:
    """Return the completer of a scalar or an enum."""
    python_type = PYTHON_TYPES.get(type_)

    async def await_leaf(value: Awaitable[object]) -> object:
        return await value

    def complete_leaf(_run: Run, _field: Field, value: object, _path: Path) -> object:
        if type(value) is python_type:
            return value
        completed: object = Executor.complete_leaf_value(type_, value)
        if is_awaitable(completed) and not isinstance(completed, CoroutineType):
            return await_leaf(completed)
        return completed

    return complete_leaf
