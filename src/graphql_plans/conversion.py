"""Arguments as Strawberry's resolvers take them: input objects become instances of their classes.

What a type needs is found once; what is not covered is left to Strawberry's own conversion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Final, cast

import strawberry
from strawberry import UNSET
from strawberry.relay.types import GlobalID
from strawberry.schema.compat import is_scalar
from strawberry.types import Info
from strawberry.types.arguments import StrawberryArgument, convert_argument
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryObjectDefinition,
    StrawberryOptional,
    StrawberryType,
    has_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition
from strawberry.types.lazy_type import LazyType

# What Strawberry hands to resolvers is of the types that their authors declared.
AnyInfo = Info[Any, Any]
Convert = Callable[[object, AnyInfo | None], object]
Conversion = Callable[[Mapping[str, object], AnyInfo | None], dict[str, object]]


def conversion_of(arguments: Sequence[StrawberryArgument], schema: strawberry.Schema) -> Conversion:
    """Return what converts the coerced arguments of a field to those of its resolver."""
    converters = [
        (
            schema.config.name_converter.from_argument(argument),
            argument.python_name,
            _Converters(schema).of(argument.type, _name(argument, schema)),
        )
        for argument in arguments
    ]

    def convert(given: Mapping[str, object], info: AnyInfo | None) -> dict[str, object]:
        return {
            python_name: converter(given[name], info)
            for name, python_name, converter in converters
            if name in given
        }

    return convert


def _name(argument: StrawberryArgument, schema: strawberry.Schema) -> str:
    return schema.config.name_converter.from_argument(argument)


@dataclass(frozen=True, slots=True)
class _InputField:
    name: str
    python_name: str
    convert: Convert


class _Converters:
    """Makes converters of one argument's types."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config: Final = schema.config
        self._scalars: Final = schema.schema_converter.scalar_registry
        self._within: Final[list[type]] = []

    def of(self, type_: StrawberryType | type, *path: str) -> Convert:
        """Return the converter of a type, at a path within the arguments."""
        match type_:
            case StrawberryMaybe():
                return self._by_strawberry(type_, path)
            case StrawberryOptional():
                return self.of(type_.of_type, *path)
            case StrawberryList():
                return self._list(type_, path)
            case LazyType():
                return self.of(type_.resolve_type(), *path)
            case _ if self._is_leaf(type_):
                return _as_it_is
            case _ if has_object_definition(type_) and isinstance(type_, type):
                return self._input_object(type_, type_.__strawberry_definition__, path)
            case _:
                return self._by_strawberry(type_, path)

    def _is_leaf(self, type_: StrawberryType | type) -> bool:
        if type_ is GlobalID:
            return False
        return (
            isinstance(type_, StrawberryEnumDefinition)
            or has_enum_definition(type_)
            or is_scalar(type_, self._scalars)
        )

    def _list(self, type_: StrawberryList, path: tuple[str, ...]) -> Convert:
        item_type = type_.of_type
        if isinstance(item_type, StrawberryOptional):
            item_type = item_type.of_type
        if not self._is_leaf(item_type):
            # Its items would have to know their places.
            return self._by_strawberry(type_, path)

        def convert_list(value: object, _: AnyInfo | None) -> object:
            return value if value is None or value is UNSET else list(cast(list[object], value))

        return convert_list

    def _input_object(
        self, class_: type, definition: StrawberryObjectDefinition, path: tuple[str, ...]
    ) -> Convert:
        if definition.from_input is not None or not definition.is_input or class_ in self._within:
            return self._by_strawberry(class_, path)
        self._within.append(class_)
        fields = [
            _InputField(
                name,
                field.python_name,
                self.of(field.resolve_type(type_definition=definition), *path, name),
            )
            for field in definition.fields
            for name in [self._config.name_converter.from_field(field)]
        ]
        self._within.pop()
        implicit = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }

        def convert_input_object(value: object, info: AnyInfo | None) -> object:
            if value is None or value is UNSET:
                return value
            given = cast(Mapping[str, object], value)
            arguments: dict[str, object] = dict(implicit)
            for field in fields:
                if field.name in given:
                    arguments[field.python_name] = field.convert(given[field.name], info)
            return class_(**arguments)

        return convert_input_object

    def _by_strawberry(self, type_: StrawberryType | type, path: tuple[str, ...]) -> Convert:
        config, scalars = self._config, self._scalars

        def convert(value: object, info: AnyInfo | None) -> object:
            return convert_argument(value, type_, scalars, config, info, path=path)

        return convert


def _as_it_is(value: object, _: AnyInfo | None) -> object:
    return value
