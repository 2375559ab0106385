"""How a field's value is found: as an attribute, or by a resolver, called without detours.

A field with extensions, permissions or handlers of exceptions is resolved as Strawberry made it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import isasyncgenfunction, isawaitable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

import strawberry
from graphql import GraphQLField, GraphQLOutputType, GraphQLSchema, default_field_resolver
from graphql.pyutils import Path
from strawberry.types import Info
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver

from graphql_plans.completion import Complete, completer_of
from graphql_plans.conversion import Conversion, conversion_of

if TYPE_CHECKING:
    from graphql_plans.fields import ResolvedField
    from graphql_plans.run import Run

Attribute = Callable[[object], object]
"""Reads a field's value from its object."""

Resolve = Callable[["Run", "ResolvedField", object, Path], object]
"""Returns a field's value, or something to await for it."""

_DEFINITION = "strawberry-definition"


class Resolvers:
    """How the fields of one schema are found and completed, each looked at once however often."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema: Final = schema
        # By the identity of their definitions, which the schema keeps.
        self._attributes: Final[dict[int, Attribute | None]] = {}
        self._resolvers: Final[dict[int, Resolve]] = {}
        self._completers: Final[dict[GraphQLOutputType, Complete]] = {}

    def attribute(self, definition: GraphQLField) -> Attribute | None:
        """Return how a field is read that has no resolver of its own; None where it has one."""
        key = id(definition)
        if key not in self._attributes:
            self._attributes[key] = _attribute_of(definition, self._schema)
        return self._attributes[key]

    def resolver(self, definition: GraphQLField) -> Resolve:
        """Return how a field is resolved."""
        key = id(definition)
        if key not in self._resolvers:
            self._resolvers[key] = _resolver_of(definition, self._schema)
        return self._resolvers[key]

    def completer(self, type_: GraphQLOutputType) -> Complete:
        """Return what completes values of a type."""
        found = self._completers.get(type_)
        if found is None:
            found = self._completers[type_] = completer_of(type_)
        return found


def _attribute_of(definition: GraphQLField, schema: GraphQLSchema) -> Attribute | None:
    field = _plain_field(definition, schema)
    if field is None or field.base_resolver is not None:
        return None
    name, resolver = field.python_name, field.default_resolver
    if resolver is getattr and "." not in name:
        return attrgetter(name)
    return lambda source: resolver(source, name)


def _resolver_of(definition: GraphQLField, schema: GraphQLSchema) -> Resolve:
    field = _plain_field(definition, schema)
    if field is None or field.base_resolver is None:
        return _as_it_is_made(definition)
    if isasyncgenfunction(field.base_resolver.wrapped_func):
        return _as_it_is_made(definition)
    call = _Call.of(field, field.base_resolver, _strawberry_schema(schema))
    return _asynchronous(call) if field.is_async else _synchronous(call)


def _plain_field(definition: GraphQLField, schema: GraphQLSchema) -> StrawberryField | None:
    field = definition.extensions.get(_DEFINITION)
    owner = getattr(schema, "_strawberry_schema", None)
    if not isinstance(field, StrawberryField) or field.extensions or owner is None:
        return None
    if type(field) is not StrawberryField or _strawberry_schema(schema).exception_handlers:
        return None
    return field


def _strawberry_schema(schema: GraphQLSchema) -> strawberry.Schema:
    # Strawberry links its own schema so; there is no public way from one to the other.
    return cast(strawberry.Schema, schema._strawberry_schema)  # type: ignore[attr-defined]  # noqa: SLF001


def _as_it_is_made(definition: GraphQLField) -> Resolve:
    resolver = definition.resolve or default_field_resolver

    def resolve(run: "Run", field: "ResolvedField", source: object, path: Path) -> object:
        return resolver(source, run.info(field, path), **field.arguments(run.variables))

    return resolve


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a resolver: what it takes beside the arguments of the field."""

    field: StrawberryField
    resolver: StrawberryResolver[object]
    convert: Conversion
    # Strawberry's types name neither what an info is of, nor what resolvers take and return.
    info_class: type[Info[Any, Any]]
    takes_self: bool
    source_names: tuple[str, ...]
    info_name: str | None

    @classmethod
    def of(
        cls, field: StrawberryField, resolver: StrawberryResolver[object], schema: strawberry.Schema
    ) -> "_Call":
        parameters = (resolver.parent_parameter, resolver.root_parameter)
        info = resolver.info_parameter
        return cls(
            field=field,
            resolver=resolver,
            convert=conversion_of(field.arguments, schema),
            info_class=schema.config.info_class,
            takes_self=resolver.self_parameter is not None,
            source_names=tuple(parameter.name for parameter in parameters if parameter),
            info_name=None if info is None else info.name,
        )

    def __call__(
        self,
        run: "Run",
        of: "ResolvedField",
        source: object,
        path: Path,
        given: Mapping[str, object],
    ) -> object:
        info = self.info_class(_raw_info=run.info(of, path), _field=self.field)
        # As with Strawberry, whose resolvers are typed to take texts.
        arguments: dict[str, Any] = self.convert(given, info)
        for name in self.source_names:
            arguments[name] = source
        if self.info_name is not None:
            arguments[self.info_name] = info
        positional: tuple[Any, ...] = (source,) if self.takes_self else ()
        return self.resolver(*positional, **arguments)


def _synchronous(call: _Call) -> Resolve:
    def resolve(run: "Run", field: "ResolvedField", source: object, path: Path) -> object:
        return call(run, field, source, path, field.arguments(run.variables))

    return resolve


def _asynchronous(call: _Call) -> Resolve:
    async def converted(
        run: "Run", field: "ResolvedField", source: object, path: Path, given: Mapping[str, object]
    ) -> object:
        result = call(run, field, source, path, given)
        return await cast(Awaitable[object], result) if isawaitable(result) else result

    def resolve(run: "Run", field: "ResolvedField", source: object, path: Path) -> object:
        # Arguments are coerced at once; what the resolver makes of them may fail only in its turn.
        return converted(run, field, source, path, field.arguments(run.variables))

    return resolve
