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

PlainObjects = Callable[[Sequence[object]], list[dict[str, object]]]
"""Returns the selected values of plain objects; raises any exception if one is not plain."""

PlainObjectsOf = Callable[[GraphQLObjectType], PlainObjects | None]
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
    GraphQLID: "str(value) if type(value) is int else value if type(value) is str",
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


def plain_completer(type_: GraphQLOutputType, objects_of: PlainObjectsOf) -> Plain | None:
    """Return what completes the plain values of a type; None if its values are never plain.

    To it, None is not plain.
    """
    nullable = get_nullable_type(type_)
    if isinstance(nullable, GraphQLList):
        return _plain_list(nullable.of_type, objects_of)
    if isinstance(nullable, GraphQLObjectType):
        complete = _plain_objects(nullable, objects_of)
        return None if complete is None else lambda value: complete((value,))[0]
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


def _plain_list(item_type: GraphQLOutputType, objects_of: PlainObjectsOf) -> Plain | None:
    if isinstance(item_type, GraphQLNonNull) and isinstance(item_type.of_type, GraphQLObjectType):
        objects = _plain_objects(item_type.of_type, objects_of)
        return None if objects is None else lambda value: objects(_plain_items(value))
    complete = plain_completer(item_type, objects_of)
    if complete is None:
        return None
    if isinstance(item_type, GraphQLNonNull):
        return lambda value: [complete(item) for item in _plain_items(value)]
    return lambda value: [None if item is None else complete(item) for item in _plain_items(value)]


def _plain_items(value: object) -> Sequence[object]:
    if type(value) is not list and type(value) is not tuple:
        raise NotPlainError
    return cast(Sequence[object], value)


def _plain_objects(type_: GraphQLObjectType, objects_of: PlainObjectsOf) -> PlainObjects | None:
    complete = objects_of(type_)
    if complete is None:
        return None
    has_check = type_.is_type_of is not None
    plain_classes: set[type] = set()

    def complete_objects(values: Sequence[object]) -> list[dict[str, object]]:
        if not plain_classes.issuperset(map(type, values)):
            for value in values:
                is_plain = _is_plain_class(type(value))
                if not is_plain or (has_check and not is_exact_instance(type_, value)):
                    raise NotPlainError
                # Other objects of a class with dictionaries may be cast to another type.
                if not (has_check and hasattr(value, "__dict__")):
                    plain_classes.add(type(value))
        return complete(values)

    return complete_objects


def _is_plain_class(class_: type) -> bool:
    """Return whether no object of a class is an error or an awaitable."""
    return not issubclass(class_, _NOT_PLAIN) and not (
        # An object with a `__getattr__` may say that it is an awaitable.
        hasattr(class_, "__await__") or hasattr(class_, "__getattr__")
    )


def generate(fields: Sequence[tuple[str, PlainAttribute | str]]) -> PlainObjects:
    """Return a function that completes the fields of a selection set: attributes and constants.

    Its code has response keys as literals, but no other text of a document.
    """
    names: dict[str, object] = {"plain": _PLAIN}
    items: list[str] = []
    for index, (key, field) in enumerate(fields):
        if isinstance(field, str):
            items.append(f"{key!r}: {field!r}")
        else:
            names[f"complete_{index}"] = field.complete
            items.append(f"{key!r}: {_completed(field, f'complete_{index}')}")
    code = f"def complete(sources):\n    return [{{{', '.join(items)}}} for source in sources]\n"
    exec(compile(code, "<selection set>", "exec"), names)  # noqa: S102 - names and literals only
    return cast(PlainObjects, names["complete"])


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
