"""Which fields a selection set has for a type: collected once, by graphql-core.

Source: the GraphQL specification, section 6.3.2.
"""

from collections.abc import Callable, Mapping
from typing import Final

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetails,
    FragmentDetails,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues

from graphql_plans.fields import SelectionSet, field_of
from graphql_plans.resolvers import Resolvers
from graphql_plans.run import Operation

Grow = Callable[[int], None]
"""Is told what was added to the plans of a document: nodes that fields were made of, and the like.

Many fields are made only when a value of their type is met, so plans may grow in any execution.
"""


class Selections:
    """The selection sets of an operation, for given values of its `@skip` and `@include`."""

    def __init__(
        self,
        operation: Operation,
        conditions: Mapping[str, bool],
        resolvers: Resolvers,
        grow: Grow,
    ) -> None:
        self.operation: Final = operation
        self.resolvers: Final = resolvers
        self._variables: Final = VariableValues({}, dict(conditions))
        self._fragments: Final = {
            name: FragmentDetails(definition) for name, definition in operation.fragments.items()
        }
        self._grow: Final = grow
        # Nodes that are reached by many ways, as those of fragments are, have one selection set.
        self._of_nodes: Final[dict[tuple[GraphQLObjectType, tuple[int, ...]], SelectionSet]] = {}

    def of_root(self, type_: GraphQLObjectType) -> SelectionSet:
        """Return what is selected of the root."""
        self._grow(1 + len(self._fragments))
        operation = self.operation
        return self._selection_set(
            type_,
            collect_fields(
                operation.schema,
                self._fragments,
                self._variables,
                type_,
                operation.definition,
                operation.hide_suggestions,
            ),
        )

    def of_field(self, type_: GraphQLObjectType, details: list[FieldDetails]) -> SelectionSet:
        """Return what is selected of a field's value of a type."""
        nodes = type_, tuple(id(detail.node) for detail in details)
        found = self._of_nodes.get(nodes)
        if found is None:
            found = self._of_nodes[nodes] = self._selection_set(
                type_,
                collect_subfields(
                    self.operation.schema,
                    self._fragments,
                    self._variables,
                    self.operation.definition,
                    type_,
                    details,
                    self.operation.hide_suggestions,
                ),
            )
        return found

    def _selection_set(self, type_: GraphQLObjectType, collected: CollectedFields) -> SelectionSet:
        self._grow(1 + sum(map(len, collected.grouped_field_set.values())))
        fields = (
            (key, field_of(type_, details, self))
            for key, details in collected.grouped_field_set.items()
        )
        return SelectionSet([(key, field) for key, field in fields if field is not None])
