"""Plan the fields that a selection set has for a type; graphql-core collects them.

Source: the GraphQL specification, section 6.3.2.
"""

from collections.abc import Callable, Mapping

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


def root_selection_set(
    operation: Operation,
    conditions: Mapping[str, bool],
    definitions: FieldDefinitions,
    grow: Grow,
    root_type: GraphQLObjectType,
) -> SelectionSet:
    """Return the selection set of an operation, for one set of values of its conditions.

    They are the variables in its `@skip` and `@include`.
    """
    schema, hide_suggestions = operation.schema, operation.hide_suggestions
    variables = VariableValues({}, dict(conditions))
    fragments = {name: FragmentDetails(node) for name, node in operation.fragments.items()}
    # Nodes reached by several paths, like those of fragments, share one selection set.
    by_nodes: dict[tuple[GraphQLObjectType, tuple[int, ...]], SelectionSet] = {}

    def selection_set(type_: GraphQLObjectType, collected: CollectedFields) -> SelectionSet:
        grow(1 + sum(map(len, collected.grouped_field_set.values())))
        fields = [
            (key, planned)
            for key, details in collected.grouped_field_set.items()
            if (planned := planned_field(type_, details)) is not None
        ]
        return SelectionSet(fields)

    def planned_field(type_: GraphQLObjectType, details: list[FieldDetails]) -> AnyField | None:
        """Return the planned field of some nodes, or None if the type has no such field."""
        node = details[0].node
        if node.name.value == "__typename":
            return TypenameField(type_)
        definition = schema.get_field(type_, node.name.value)
        if definition is None:
            return None
        shared = definitions.get(definition)
        if shared.attribute is not None:
            return AttributeField(type_, details, definition, shared, select, shared.attribute)
        arguments = argument_coercer(definition, node, hide_suggestions=hide_suggestions)
        return ResolvedField(type_, details, definition, shared, select, arguments)

    def select(type_: GraphQLObjectType, details: list[FieldDetails]) -> SelectionSet:
        """Return the selection set of a field, for one type of its value."""
        nodes = type_, tuple(id(detail.node) for detail in details)
        found = by_nodes.get(nodes)
        if found is None:
            collected = collect_subfields(
                schema,
                fragments,
                variables,
                operation.definition,
                type_,
                details,
                hide_suggestions,
            )
            found = by_nodes[nodes] = selection_set(type_, collected)
        return found

    grow(1 + len(fragments))
    collected = collect_fields(
        schema, fragments, variables, root_type, operation.definition, hide_suggestions
    )
    return selection_set(root_type, collected)
