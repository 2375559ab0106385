"""Convert coerced arguments to those of Strawberry's resolvers: input objects become instances.

A plan looks up the conversion of each type once. Strawberry converts types that plans do not cover.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, Final, cast

import strawberry
from strawberry import UNSET, Info, LazyType
from strawberry.relay import GlobalID
from strawberry.schema.compat import is_scalar
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

# The authors of a schema choose the types of an Info's context and root.
AnyInfo = Info[Any, Any]
Convert = Callable[[object, AnyInfo], object]
ConvertArguments = Callable[[Mapping[str, object], AnyInfo], dict[str, object]]


def argument_converter(
    arguments: Sequence[StrawberryArgument], schema: strawberry.Schema
) -> ConvertArguments:
    """Return the converter of a field's arguments to those of its resolver."""
    converters: list[tuple[str, str, Convert]] = []
    for argument in arguments:
        name = schema.config.name_converter.from_argument(argument)
        convert = _Converters(schema).of(argument.type, name)
        converters.append((name, argument.python_name, convert))

    def convert_arguments(given: Mapping[str, object], info: AnyInfo) -> dict[str, object]:
        return {
            python_name: convert(given[name], info)
            for name, python_name, convert in converters
            if name in given
        }

    return convert_arguments


def _unchanged(value: object, _: AnyInfo) -> object:
    return value


class _Converters:
    """Makes the converters of one argument's types."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config: Final = schema.config
        self._scalars: Final = schema.schema_converter.scalar_registry
        self._parents: Final[list[type]] = []

    def of(self, type_: StrawberryType | type, *path: str) -> Convert:
        """Return the converter of a type, at a path within the arguments."""
        match type_:
            case StrawberryMaybe():
                return self._by_strawberry(type_, path)
            case StrawberryOptional():
                return self.of(type_.of_type, *path)
            case StrawberryList():
                return self.of_list(type_, path)
            case LazyType():
                return self.of(type_.resolve_type(), *path)
            case _ if self._is_leaf(type_):
                return _unchanged
            case _ if has_object_definition(type_) and isinstance(type_, type):
                return self.of_input_object(type_, type_.__strawberry_definition__, path)
            case _:
                return self._by_strawberry(type_, path)

    def of_list(self, type_: StrawberryList, path: tuple[str, ...]) -> Convert:
        """Return the converter of a list."""
        item_type = type_.of_type
        if isinstance(item_type, StrawberryOptional):
            item_type = item_type.of_type
        if not self._is_leaf(item_type):
            # The path of an item has its index, which is unknown here.
            return self._by_strawberry(type_, path)

        def convert_list(value: object, _: AnyInfo) -> object:
            return value if value is None or value is UNSET else list(cast(list[object], value))

        return convert_list

    def of_input_object(
        self, class_: type, definition: StrawberryObjectDefinition, path: tuple[str, ...]
    ) -> Convert:
        """Return the converter of an input object to an instance of its class."""
        if definition.from_input is not None or not definition.is_input or class_ in self._parents:
            return self._by_strawberry(class_, path)
        fields: list[tuple[str, str, Convert | None]] = []
        self._parents.append(class_)
        for field in definition.fields:
            name = self._config.name_converter.from_field(field)
            type_ = field.resolve_type(type_definition=definition)
            convert = self.of(type_, *path, name)
            fields.append((name, field.python_name, None if convert is _unchanged else convert))
        self._parents.pop()
        defaults = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }

        def convert_input_object(value: object, info: AnyInfo) -> object:
            if value is None or value is UNSET:
                return value
            given = cast(Mapping[str, object], value)
            arguments: dict[str, object] = dict(defaults)
            for name, python_name, convert in fields:
                if name in given:
                    # Most values end here, without a call.
                    item = given[name]
                    arguments[python_name] = item if convert is None else convert(item, info)
            return class_(**arguments)

        return convert_input_object

    def _is_leaf(self, type_: StrawberryType | type) -> bool:
        if type_ is GlobalID:
            return False
        return (
            isinstance(type_, StrawberryEnumDefinition)
            or has_enum_definition(type_)
            or is_scalar(type_, self._scalars)
        )

    def _by_strawberry(self, type_: StrawberryType | type, path: tuple[str, ...]) -> Convert:
        config, scalars = self._config, self._scalars
        return lambda value, info: convert_argument(value, type_, scalars, config, info, path=path)
