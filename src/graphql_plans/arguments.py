"""Arguments of a field: where each value comes from is found once.

What is not plainly right is left to graphql-core, whose errors are told.

Source: the GraphQL specification, section 6.4.1.
"""

from collections.abc import Callable
from typing import Final

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLNonNull,
    Undefined,
    ValueNode,
    VariableNode,
    get_argument_values,
    get_named_type,
    get_nullable_type,
    is_required_argument,
    is_specified_scalar_type,
)
from graphql.execution.values import VariableValues
from graphql.type import is_leaf_type
from graphql.utilities import coerce_input_literal
from graphql.utilities.coerce_input_value import coerce_default_value

from graphql_plans.variables import NotCoveredError

Arguments = Callable[[VariableValues], dict[str, object]]
"""Returns the arguments that are given or have a default, by their names in Python."""

_Value = Callable[[VariableValues], object]


def argument_coercer(
    definition: GraphQLField, node: FieldNode, *, hide_suggestions: bool
) -> Arguments:
    """Return what coerces the arguments of a field."""

    def by_reference(variables: VariableValues) -> dict[str, object]:
        return get_argument_values(definition, node, variables, None, hide_suggestions)

    if not definition.args:
        return _none
    given = {argument.name.value: argument.value for argument in node.arguments or ()}
    try:
        sources = [
            (argument.out_name or name, _source(argument, given.get(name)))
            for name, argument in definition.args.items()
        ]
    except NotCoveredError:
        return by_reference

    def coerce(variables: VariableValues) -> dict[str, object]:
        coerced: dict[str, object] = {}
        try:
            for name, source in sources:
                value = source(variables)
                if value is not Undefined:
                    coerced[name] = value
        except NotCoveredError:
            return by_reference(variables)
        return coerced

    return coerce


def _none(_: VariableValues) -> dict[str, object]:
    return {}


def _source(argument: GraphQLArgument, given: ValueNode | None) -> _Value:
    if given is None:
        return _default(argument)
    if isinstance(given, VariableNode):
        return _variable(argument, given.name.value)
    return _literal(argument, given)


def _default(argument: GraphQLArgument) -> _Value:
    if is_required_argument(argument):
        raise NotCoveredError
    return _constant(_default_value(argument))


def _default_value(argument: GraphQLArgument) -> object:
    try:
        return coerce_default_value(argument)
    except TypeError:
        raise NotCoveredError from None


def _constant(value: object) -> _Value:
    return lambda _: value


def _variable(argument: GraphQLArgument, name: str) -> _Value:
    is_required = is_required_argument(argument)
    is_non_null = isinstance(argument.type, GraphQLNonNull)
    default: Final = Undefined if is_required else _default_value(argument)

    def variable(variables: VariableValues) -> object:
        value = variables.coerced.get(name, Undefined)
        if value is Undefined:
            if is_required:
                raise NotCoveredError
            return default
        if value is None and is_non_null:
            raise NotCoveredError
        return value

    return variable


def _literal(argument: GraphQLArgument, node: ValueNode) -> _Value:
    def literal(variables: VariableValues) -> object:
        value = coerce_input_literal(node, argument.type, variables)
        if value is Undefined:
            raise NotCoveredError
        return value

    named = get_named_type(argument.type)
    nullable = get_nullable_type(argument.type)
    # Lists, objects and values of custom scalars are made anew each time: they may be changed.
    if is_leaf_type(nullable) and (
        isinstance(named, GraphQLEnumType) or is_specified_scalar_type(named)
    ):
        return _constant(literal(VariableValues({}, {})))
    return literal
