"""Coerce the arguments of a field.

A plan looks up the source of each value once. If a value is invalid, graphql-core coerces all
arguments again and words the error.

Source: the GraphQL specification, section 6.4.1.
"""

from collections.abc import Callable
from typing import Final

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLNonNull,
    Undefined,
    ValueNode,
    VariableNode,
    VariableValues,
    coerce_input_literal,
    get_argument_values,
    is_required_argument,
)
from graphql.utilities.coerce_input_value import coerce_default_value

from graphql_plans.variables import NotCoveredError, has_immutable_values

Arguments = Callable[[VariableValues], dict[str, object]]
"""Returns the arguments that are given or have a default, by their names in Python."""

Source = Callable[[VariableValues], object]
"""Returns the value of one argument, or `Undefined`."""


def argument_coercer(
    definition: GraphQLField, node: FieldNode, *, hide_suggestions: bool
) -> Arguments:
    """Return the coercer of a field's arguments."""

    def coerce_by_graphql_core(variables: VariableValues) -> dict[str, object]:
        return get_argument_values(definition, node, variables, None, hide_suggestions)

    if not definition.args:
        return lambda _: {}
    given = {argument.name.value: argument.value for argument in node.arguments or ()}
    try:
        sources = [
            (argument.out_name or name, _source(argument, given.get(name)))
            for name, argument in definition.args.items()
        ]
    except NotCoveredError:
        return coerce_by_graphql_core

    def coerce(variables: VariableValues) -> dict[str, object]:
        coerced: dict[str, object] = {}
        try:
            for name, source in sources:
                value = source(variables)
                if value is not Undefined:
                    coerced[name] = value
        except NotCoveredError:
            return coerce_by_graphql_core(variables)
        return coerced

    return coerce


def _source(argument: GraphQLArgument, given: ValueNode | None) -> Source:
    if isinstance(given, VariableNode):
        return variable_source(argument, given.name.value)
    if given is not None:
        return literal_source(argument, given)
    if is_required_argument(argument):
        raise NotCoveredError
    default = coerce_default_value(argument)
    return lambda _: default


def variable_source(argument: GraphQLArgument, name: str) -> Source:
    """Return the source of an argument whose value is a variable."""
    is_required = is_required_argument(argument)
    is_non_null = isinstance(argument.type, GraphQLNonNull)
    default: Final = Undefined if is_required else coerce_default_value(argument)

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


def literal_source(argument: GraphQLArgument, node: ValueNode) -> Source:
    """Return the source of an argument whose value is a literal."""

    def literal(variables: VariableValues) -> object:
        value = coerce_input_literal(node, argument.type, variables)
        if value is Undefined:
            raise NotCoveredError
        return value

    if has_immutable_values(argument.type):
        constant = literal(VariableValues({}, {}))
        return lambda _: constant
    return literal
