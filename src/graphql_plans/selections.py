"""Plan the fields that a selection set has for a type; graphql-core collects them.

Source: the GraphQL specification, section 6.3.2.
"""

from collections.abc import Callable, Mapping
from typing import Final

from graphql import GraphQLObjectType, VariableValues
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetails,
    FragmentDetails,
    collect_fields,
    collect_subfields,
)

from graphql_plans.arguments import argument_coercer
from graphql_plans.execution import Operation
from graphql_plans.fields import (
    AnyField,
    AttributeField,
    FieldDefinitions,
    ResolvedField,
    SelectionSet,
    TypenameField,
)

Grow = Callable[[int], None]
"""Receives the number of parts added to a plan: selection sets, nodes of fields, and the like.

A plan may grow in any execution: a selection set is planned when a value of its type first occurs.
"""


class Selections:
    """The selection sets of an operation, for one set of values of its `@skip` and `@include`."""

    def __init__(
        self,
        operation: Operation,
        conditions: Mapping[str, bool],
        definitions: FieldDefinitions,
        grow: Grow,
    ) -> None:
        self._operation: Final = operation
        self._variables: Final = VariableValues({}, dict(conditions))
        self._definitions: Final = definitions
        self._grow: Final = grow
        self._fragments: Final = {
            name: FragmentDetails(definition) for name, definition in operation.fragments.items()
        }
        # One bound method for all fields: each would take 64 bytes.
        self._select: Final = self.of_field
        # Nodes reached by several paths, like those of fragments, share one selection set.
        self._by_nodes: Final[dict[tuple[GraphQLObjectType, tuple[int, ...]], SelectionSet]] = {}

    def of_root(self, type_: GraphQLObjectType) -> SelectionSet:
        """Return the selection set of the operation."""
        self._grow(1 + len(self._fragments))
        operation = self._operation
        collected = collect_fields(
            operation.schema,
            self._fragments,
            self._variables,
            type_,
            operation.definition,
            operation.hide_suggestions,
        )
        return self._selection_set(type_, collected)

    def of_field(self, type_: GraphQLObjectType, details: list[FieldDetails]) -> SelectionSet:
        """Return the selection set of a field, for one type of its value."""
        nodes = type_, tuple(id(detail.node) for detail in details)
        found = self._by_nodes.get(nodes)
        if found is None:
            operation = self._operation
            collected = collect_subfields(
                operation.schema,
                self._fragments,
                self._variables,
                operation.definition,
                type_,
                details,
                operation.hide_suggestions,
            )
            found = self._by_nodes[nodes] = self._selection_set(type_, collected)
        return found

    def _selection_set(self, type_: GraphQLObjectType, collected: CollectedFields) -> SelectionSet:
        self._grow(1 + sum(map(len, collected.grouped_field_set.values())))
        fields: list[tuple[str, AnyField]] = []
        for key, details in collected.grouped_field_set.items():
            field = self._field(type_, details)
            if field is not None:
                fields.append((key, field))
        return SelectionSet(fields)

    def _field(self, type_: GraphQLObjectType, details: list[FieldDetails]) -> AnyField | None:
        """Return the planned field of some nodes, or None if the type has no such field."""
        node = details[0].node
        if node.name.value == "__typename":
            return TypenameField(type_)
        definition = self._operation.schema.get_field(type_, node.name.value)
        if definition is None:
            return None
        shared = self._definitions.get(definition)
        if shared.attribute is not None:
            return AttributeField(type_, details, shared, self._select, shared.attribute)
        hide_suggestions = self._operation.hide_suggestions
        arguments = argument_coercer(definition, node, hide_suggestions=hide_suggestions)
        return ResolvedField(type_, details, shared, self._select, arguments)
