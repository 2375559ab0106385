"""Complete plain values: those without an error, with nothing to await.

One generated function completes all fields of a selection set, and those of the objects and lists
in it. A value that is not plain raises an exception: the completers then complete the same value
again, and report its error. So attributes and serializers may be called twice.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from keyword import iskeyword
from types import CoroutineType, GeneratorType
from typing import Final, NamedTuple, cast
from uuid import UUID

from graphql import (
    GraphQLBoolean,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLString,
    Undefined,
    get_nullable_type,
    is_leaf_type,
)
from graphql.pyutils import is_awaitable
from strawberry.types.scalar import identity

from graphql_plans.execution import PYTHON_TYPES
from graphql_plans.runtime_types import is_exact_instance

Plain = Callable[[object], object]
"""Returns the completed value of a plain value; raises any exception if it is not plain."""

PlainObject = Callable[[GraphQLObjectType], Plain | None]
"""Returns what completes the objects of a type; None if a field of them has a resolver."""

_NOT_PLAIN: Final = (Exception, type(None), type(Undefined), CoroutineType, GeneratorType)
# Most leaves have one of these classes, whose instances are no awaitables.
_PLAIN: Final = frozenset(
    {str, int, bool, float, bytes, datetime, date, time, Decimal, UUID, list, tuple, dict}
)

# How to write a value that needs no call, by its type. Any other value is completed by a function.
_INLINE: Final[Mapping[object, str]] = {
    GraphQLString: "value if type(value) is str",
    GraphQLBoolean: "value if type(value) is bool",
    GraphQLID: "value if type(value) is str else str(value) if type(value) is int",
    GraphQLInt: "value if type(value) is int and -0x80000000 <= value <= 0x7FFFFFFF",
}
# Of scalars that are shown as they are, such as those of Strawberry without a `serialize`.
_INLINE_IDENTITY: Final = "value if type(value) in plain"


class NotPlainError(Exception):
    """A value may have an error, or may have to be awaited."""


class PlainAttribute(NamedTuple):
    """An attribute that a selected field reads."""

    name: str
    type: GraphQLOutputType
    complete: Plain


def is_plain_name(name: str) -> bool:
    """Return whether generated code may read an attribute by its name."""
    # Python normalizes other characters of names in code.
    return name.isascii() and name.isidentifier() and not iskeyword(name)


def plain_completer(type_: GraphQLOutputType, plain_object: PlainObject) -> Plain | None:
    """Return what completes the plain values of a type; None if its values are never plain.

    To it, None is not plain.
    """
    nullable = get_nullable_type(type_)
    if isinstance(nullable, GraphQLList):
        return _plain_list(nullable.of_type, plain_completer(nullable.of_type, plain_object))
    if isinstance(nullable, GraphQLObjectType):
        return _plain_object(nullable, plain_object(nullable))
    return plain_leaf(nullable) if is_leaf_type(nullable) else None


def plain_leaf(type_: GraphQLLeafType) -> Plain:
    """Return what completes the plain values of a scalar or an enum."""
    python_type = PYTHON_TYPES.get(type_)
    serialize = type_.coerce_output_value

    def complete_leaf(value: object) -> object:
        if type(value) is python_type:
            return value
        if type(value) not in _PLAIN and (isinstance(value, _NOT_PLAIN) or is_awaitable(value)):
            raise NotPlainError
        completed: object = serialize(value)
        if type(completed) not in _PLAIN:
            raise NotPlainError
        return completed

    return complete_leaf


def _plain_list(item_type: GraphQLOutputType, complete: Plain | None) -> Plain | None:
    if complete is None:
        return None
    has_nulls = not isinstance(item_type, GraphQLNonNull)

    def complete_list(value: object) -> object:
        if type(value) is not list and type(value) is not tuple:
            raise NotPlainError
        items = cast(Sequence[object], value)
        if has_nulls:
            return [None if item is None else complete(item) for item in items]
        return [complete(item) for item in items]

    return complete_list


def _plain_object(type_: GraphQLObjectType, complete: Plain | None) -> Plain | None:
    if complete is None:
        return None
    has_check = type_.is_type_of is not None
    plain_class: type | None = None

    def complete_object(value: object) -> object:
        nonlocal plain_class
        if type(value) is not plain_class:
            if not _is_plain_class(type(value)):
                raise NotPlainError
            if has_check and not is_exact_instance(type_, value):
                raise NotPlainError
            # Other objects of a class with dictionaries may be cast to another type.
            plain_class = None if has_check and hasattr(value, "__dict__") else type(value)
        return complete(value)

    return complete_object


def _is_plain_class(class_: type) -> bool:
    """Return whether no object of a class is an error or an awaitable."""
    return not issubclass(class_, _NOT_PLAIN) and not (
        # An object with a `__getattr__` may say that it is an awaitable.
        hasattr(class_, "__await__") or hasattr(class_, "__getattr__")
    )


def generate(fields: Sequence[tuple[str, PlainAttribute | str]]) -> Plain:
    """Return a function that completes the fields of a selection set: attributes and constants.

    Its code has no text of a document: response keys are constants among its globals.
    """
    constants: dict[str, object] = {"plain": _PLAIN}
    items: list[str] = []
    for index, (key, field) in enumerate(fields):
        constants[f"key_{index}"] = key
        if isinstance(field, str):
            constants[f"value_{index}"] = field
            items.append(f"key_{index}: value_{index}")
        else:
            constants[f"complete_{index}"] = field.complete
            items.append(f"key_{index}: {_completed(field, f'complete_{index}')}")
    code = f"def complete(source):\n    return {{{', '.join(items)}}}\n"
    exec(compile(code, "<selection set>", "exec"), constants)  # noqa: S102 - no text of a document
    return cast(Plain, constants["complete"])


def _completed(attribute: PlainAttribute, complete: str) -> str:
    """Return the code of an attribute's completed value."""
    value, type_ = f"source.{attribute.name}", attribute.type
    nullable = get_nullable_type(type_)
    inline = _INLINE.get(nullable)
    if is_leaf_type(nullable) and nullable.coerce_output_value is identity:
        inline = _INLINE_IDENTITY
    if isinstance(type_, GraphQLNonNull) and inline is None:
        return f"{complete}({value})"
    if inline is None:
        return f"None if (value := {value}) is None else {complete}(value)"
    inline = inline.replace("type(value)", f"type(value := {value})", 1)
    if not isinstance(type_, GraphQLNonNull):
        inline += " else value if value is None"
    return f"{inline} else {complete}(value)"
