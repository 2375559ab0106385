"""Find the value of a field: read an attribute, or call the resolver directly.

A field with extensions, permissions or exception handlers is resolved by Strawberry.
"""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isasyncgenfunction, isawaitable
from operator import attrgetter
from typing import Any, NamedTuple, cast

import strawberry
from graphql import GraphQLField, GraphQLSchema, default_field_resolver
from graphql.pyutils import Path
from strawberry import Info
from strawberry.types.field import StrawberryField

from graphql_plans.conversion import argument_converter
from graphql_plans.execution import DEFINITION, Field, Run
from graphql_plans.plain import is_plain_name

ReadAttribute = Callable[[object], object]
"""Returns a field's value from its object."""

Resolve = Callable[[Run, Field, object, Path, Mapping[str, object]], object]
"""Returns a field's value, or an awaitable of it, given its object, path and arguments."""


class Attribute(NamedTuple):
    """The attribute of a field without a resolver.

    Generated code reads it by its plain name; without one, only `read` reads it.
    """

    read: ReadAttribute
    plain_name: str | None


def attribute_of(definition: GraphQLField, schema: GraphQLSchema) -> Attribute | None:
    """Return the attribute of a field without a resolver; None if it has one."""
    field = _direct_field(definition, schema)
    if field is None or field.base_resolver is not None:
        return None
    name, resolver = field.python_name, field.default_resolver
    if resolver is getattr and "." not in name:
        return Attribute(attrgetter(name), name if is_plain_name(name) else None)
    return Attribute(lambda source: resolver(source, name), None)


def resolver(definition: GraphQLField, schema: GraphQLSchema) -> Resolve:
    """Return the resolver of a field: a direct call if possible, or that of Strawberry."""
    field = _direct_field(definition, schema)
    base = None if field is None else field.base_resolver
    if field is None or base is None or isasyncgenfunction(base.wrapped_func):
        resolve = definition.resolve or default_field_resolver
        return lambda run, field, source, path, arguments: resolve(
            source, run.info(field, path), **arguments
        )
    strawberry_schema = cast(strawberry.Schema, schema.extensions[DEFINITION])
    call = base.wrapped_func if callable(base.wrapped_func) else base
    convert = argument_converter(field.arguments, strawberry_schema)
    # The authors of a schema choose the types of an info, and of a resolver's arguments.
    info_class: type[Info[Any, Any]] = strawberry_schema.config.info_class
    takes_self = base.self_parameter is not None
    parameters = (base.parent_parameter, base.root_parameter)
    source_names = tuple(parameter.name for parameter in parameters if parameter)
    info_name = None if base.info_parameter is None else base.info_parameter.name

    def resolve_directly(
        run: Run, planned: Field, source: object, path: Path, given: Mapping[str, object]
    ) -> object:
        info = info_class(_raw_info=run.info(planned, path), _field=field)
        arguments: dict[str, Any] = convert(given, info)
        for name in source_names:
            arguments[name] = source
        if info_name is not None:
            arguments[info_name] = info
        positional: tuple[Any, ...] = (source,) if takes_self else ()
        return call(*positional, **arguments)

    async def resolve_async(
        run: Run, planned: Field, source: object, path: Path, given: Mapping[str, object]
    ) -> object:
        # As by Strawberry, the arguments are converted only when the value is awaited.
        value = resolve_directly(run, planned, source, path, given)
        return await cast(Awaitable[object], value) if isawaitable(value) else value

    return resolve_async if field.is_async else resolve_directly


def _direct_field(definition: GraphQLField, schema: GraphQLSchema) -> StrawberryField | None:
    """Return Strawberry's field if its resolver may be called directly."""
    field = definition.extensions.get(DEFINITION)
    owner = schema.extensions.get(DEFINITION)
    if (
        isinstance(owner, strawberry.Schema)
        and not owner.exception_handlers
        and type(field) is StrawberryField
        and not field.extensions
    ):
        return field
    return None
