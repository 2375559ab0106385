"""Variables: values of the request become those of their types.

Only what is right is coerced here. At the first thing that is not, graphql-core looks at all of
them, so its errors are told.

Source: the GraphQL specification, section 6.1.2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    Undefined,
)
from graphql.execution.get_variable_signature import (
    GraphQLVariableSignature,
    get_variable_signature,
)
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.pyutils import is_iterable
from graphql.type import is_required_input_field
from graphql.utilities.coerce_input_value import coerce_default_value

from graphql_plans.leaves import PYTHON_TYPES
from graphql_plans.run import Operation

Coerce = Callable[[object], object]
"""Returns the coerced value, or `Undefined` where it is not plainly right."""

MAX_ERRORS: Final = 50


class NotCoveredError(Exception):
    """Something that is left to graphql-core."""


@dataclass(frozen=True, slots=True)
class _Variable:
    signature: GraphQLVariableSignature
    coerce: Coerce
    is_nullable: bool


class Variables:
    """The variables of one operation."""

    def __init__(self, operation: Operation) -> None:
        self._operation: Final = operation
        self._variables: Final = _variables(operation)

    def coerce(self, given: dict[str, object]) -> VariableValues | list[GraphQLError]:
        """Coerce the values of a request, or say what is wrong with them."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, object] = {}
        for variable in self._variables or ():
            name = variable.signature.name
            if name in given:
                source = given[name]
                value = variable.coerce(source)
                if value is Undefined:
                    return self._by_reference(given)
                sources[name] = VariableValueSource(variable.signature, source)
                coerced[name] = value
            elif variable.is_nullable and variable.signature.default is None:
                sources[name] = VariableValueSource(variable.signature)
            else:
                return self._by_reference(given)
        if self._variables is None:
            return self._by_reference(given)
        return VariableValues(sources, coerced)

    def _by_reference(self, given: dict[str, object]) -> VariableValues | list[GraphQLError]:
        return get_variable_values(
            self._operation.schema,
            self._operation.definition.variable_definitions or (),
            given,
            max_errors=MAX_ERRORS,
            hide_suggestions=self._operation.hide_suggestions,
        )


def _variables(operation: Operation) -> Sequence[_Variable] | None:
    """Return the variables; None where not all of their types are covered."""
    variables: list[_Variable] = []
    for node in operation.definition.variable_definitions or ():
        signature = get_variable_signature(operation.schema, node)
        if isinstance(signature, GraphQLError):
            return None
        try:
            coerce = _coercer(signature.type, frozenset())
        except NotCoveredError:
            return None
        nullable = not isinstance(signature.type, GraphQLNonNull)
        variables.append(_Variable(signature, coerce, nullable))
    return variables


def _coercer(type_: GraphQLInputType, within: frozenset[str]) -> Coerce:
    match type_:
        case GraphQLNonNull():
            return _non_null(_coercer(type_.of_type, within))
        case GraphQLList():
            return _list(_coercer(type_.of_type, within))
        case GraphQLInputObjectType():
            return _input_object(type_, within)
        case GraphQLScalarType() | GraphQLEnumType():
            return _leaf(type_)
        case _:
            raise NotCoveredError


def _non_null(coerce: Coerce) -> Coerce:
    def coerce_non_null(value: object) -> object:
        return Undefined if value is None else coerce(value)

    return coerce_non_null


def _list(coerce: Coerce) -> Coerce:
    def coerce_list(value: object) -> object:
        if value is None:
            return None
        # A value that is no list is taken as a list of one.
        items = list(cast(Sequence[object], value)) if is_iterable(value) else [value]
        coerced = [coerce(item) for item in items]
        return Undefined if any(item is Undefined for item in coerced) else coerced

    return coerce_list


def _leaf(type_: GraphQLScalarType | GraphQLEnumType) -> Coerce:
    as_it_is = PYTHON_TYPES.get(type_)
    # The values of an enum are texts, and it says itself what else is none.
    coerce = cast(Coerce, type_.coerce_input_value)

    def coerce_leaf(value: object) -> object:
        if type(value) is as_it_is or value is None:
            return value
        try:
            return coerce(value)
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
            return Undefined

    return coerce_leaf


@dataclass(frozen=True, slots=True)
class _InputField:
    coerce: Coerce
    out_name: str
    is_required: bool
    default: object


def _input_object(type_: GraphQLInputObjectType, within: frozenset[str]) -> Coerce:
    if type_.is_one_of or type_.name in within:
        raise NotCoveredError
    fields = _input_fields(type_, within | {type_.name})
    out_type = type_.out_type

    def coerce_input_object(value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, dict) or not fields.keys() >= value.keys():
            return Undefined
        coerced = _members(value, fields)
        if coerced is None:
            return Undefined
        try:
            return out_type(coerced)
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
            return Undefined

    return coerce_input_object


def _members(
    given: Mapping[str, object], fields: Mapping[str, _InputField]
) -> dict[str, object] | None:
    coerced: dict[str, object] = {}
    for name, field in fields.items():
        if name in given:
            item = field.coerce(given[name])
            if item is Undefined:
                return None
            coerced[field.out_name] = item
        elif field.is_required:
            return None
        elif field.default is not Undefined:
            coerced[field.out_name] = field.default
    return coerced


def _input_fields(type_: GraphQLInputObjectType, within: frozenset[str]) -> dict[str, _InputField]:
    fields: dict[str, _InputField] = {}
    for name, field in type_.fields.items():
        try:
            default = coerce_default_value(field)
        except TypeError:
            raise NotCoveredError from None
        fields[name] = _InputField(
            _coercer(field.type, within),
            field.out_name or name,
            is_required_input_field(field),
            default,
        )
    return fields
