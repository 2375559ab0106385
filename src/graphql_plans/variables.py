"""Coerce the variables of a request.

A plan coerces valid values only. If one is invalid, graphql-core coerces all of them again and
words the errors.

Source: the GraphQL specification, section 6.1.2.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    Undefined,
    VariableValues,
    get_nullable_type,
    get_variable_values,
    is_required_input_field,
    is_specified_scalar_type,
)
from graphql.execution.get_variable_signature import (
    GraphQLVariableSignature,
    get_variable_signature,
)
from graphql.execution.values import VariableValueSource
from graphql.pyutils import is_iterable
from graphql.utilities.coerce_input_value import coerce_default_value

from graphql_plans.execution import PYTHON_TYPES, Operation

Coerce = Callable[[object], object]
"""Returns the coerced value; raises an exception if the value is not clearly valid."""

CoerceVariables = Callable[[dict[str, object]], VariableValues | list[GraphQLError]]
"""Returns the coerced variables of a request, or their errors."""

MAX_ERRORS: Final = 50


class NotCoveredError(Exception):
    """The plan does not cover this case: graphql-core executes it."""


@dataclass(frozen=True, slots=True)
class _Variable:
    signature: GraphQLVariableSignature
    coerce: Coerce
    is_optional: bool
    default: object


def variables_coercer(operation: Operation) -> CoerceVariables:
    """Return the coercer of an operation's variables."""
    variables = _variables(operation)

    def coerce(given: dict[str, object]) -> VariableValues | list[GraphQLError]:
        if variables is not None:
            try:
                return _coerced(variables, given)
            except Exception:  # noqa: BLE001, S110 - graphql-core meets the error again, and words it
                pass
        return get_variable_values(
            operation.schema,
            operation.definition.variable_definitions or (),
            given,
            max_errors=MAX_ERRORS,
            # To suggest names, graphql-core 3.3.2 compares them in lower case, and fails on U+0130,
            # whose lower case is longer.
            hide_suggestions=operation.hide_suggestions or "\u0130" in repr(given),
        )

    return coerce


def _variables(operation: Operation) -> Sequence[_Variable] | None:
    """Return the variables of an operation, or None if a type is not covered."""
    variables: list[_Variable] = []
    for node in operation.definition.variable_definitions or ():
        signature = get_variable_signature(operation.schema, node)
        if isinstance(signature, GraphQLError):
            return None
        try:
            coerce = value_coercer(signature.type)
        except NotCoveredError:
            return None
        if signature.default is None:
            is_optional = not isinstance(signature.type, GraphQLNonNull)
            default: object = Undefined
        else:
            is_optional = has_immutable_values(signature.type)
            default = coerce_default_value(signature) if is_optional else Undefined
        variables.append(_Variable(signature, coerce, is_optional, default))
    return variables


def has_immutable_values(type_: GraphQLInputType) -> bool:
    """Return whether one coerced value may serve several requests: resolvers cannot change it."""
    nullable = get_nullable_type(type_)
    return isinstance(nullable, GraphQLEnumType) or (
        isinstance(nullable, GraphQLScalarType) and is_specified_scalar_type(nullable)
    )


def _coerced(variables: Sequence[_Variable], given: dict[str, object]) -> VariableValues:
    """Return the coerced values; any exception means that they are not clearly valid."""
    sources: dict[str, VariableValueSource] = {}
    coerced: dict[str, object] = {}
    for variable in variables:
        name = variable.signature.name
        if name in given:
            value = given[name]
            coerced[name] = variable.coerce(value)
            sources[name] = VariableValueSource(variable.signature, value)
        elif variable.is_optional:
            sources[name] = VariableValueSource(variable.signature)
            if variable.default is not Undefined:
                coerced[name] = variable.default
        else:
            raise NotCoveredError
    return VariableValues(sources, coerced)


def value_coercer(type_: GraphQLInputType, parents: frozenset[str] = frozenset()) -> Coerce:
    """Return the coercer of a type within these parents, which are names of input objects.

    Raises:
        NotCoveredError: plans do not cover the type.
    """
    match type_:
        case GraphQLNonNull():
            return non_null_coercer(value_coercer(type_.of_type, parents))
        case GraphQLList():
            return list_coercer(value_coercer(type_.of_type, parents))
        case GraphQLInputObjectType():
            return input_object_coercer(type_, parents)
        case _:
            return leaf_coercer(type_)


def non_null_coercer(coerce: Coerce) -> Coerce:
    """Return the coercer of a non-null type, given that of its nullable type."""

    def coerce_non_null(value: object) -> object:
        if value is None:
            raise NotCoveredError
        return coerce(value)

    return coerce_non_null


def list_coercer(coerce: Coerce) -> Coerce:
    """Return the coercer of a list, given that of its items."""

    def coerce_list(value: object) -> object:
        if value is None:
            return None
        # A single value is coerced to a list of one item (section 3.11).
        items = cast(Iterable[object], value) if is_iterable(value) else (value,)
        return [coerce(item) for item in items]

    return coerce_list


def leaf_coercer(type_: GraphQLScalarType | GraphQLEnumType) -> Coerce:
    """Return the coercer of a scalar or an enum."""
    python_type = PYTHON_TYPES.get(type_)
    coerce = cast(Coerce, type_.coerce_input_value)

    def coerce_leaf(value: object) -> object:
        if type(value) is python_type or value is None:
            return value
        coerced = coerce(value)
        if coerced is Undefined:
            raise NotCoveredError
        return coerced

    return coerce_leaf


class _InputField(NamedTuple):
    name: str
    out_name: str
    python_type: type | None
    coerce: Coerce
    is_required: bool
    default: object


def input_object_coercer(type_: GraphQLInputObjectType, parents: frozenset[str]) -> Coerce:
    """Return the coercer of an input object.

    Raises:
        NotCoveredError: the type contains itself, or is a OneOf input object.
    """
    if type_.is_one_of or type_.name in parents:
        raise NotCoveredError
    fields = [
        _InputField(
            name=name,
            out_name=field.out_name or name,
            python_type=PYTHON_TYPES.get(get_nullable_type(field.type)),
            coerce=value_coercer(field.type, parents | {type_.name}),
            is_required=is_required_input_field(field),
            default=coerce_default_value(field),
        )
        for name, field in type_.fields.items()
    ]
    names = frozenset(type_.fields)
    out_type = type_.out_type

    def coerce_input_object(value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, dict) or not value.keys() <= names:
            raise NotCoveredError
        coerced: dict[str, object] = {}
        for name, out_name, python_type, coerce, is_required, default in fields:
            if name in value:
                # Most values end here, without a call.
                item = value[name]
                coerced[out_name] = item if type(item) is python_type else coerce(item)
            elif is_required:
                raise NotCoveredError
            elif default is not Undefined:
                coerced[out_name] = default
        return out_type(coerced)

    return coerce_input_object
