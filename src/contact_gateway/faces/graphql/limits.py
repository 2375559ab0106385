"""What a document must be beyond the specification's rules, before anything is done for it."""

from typing import Final

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    ValidationContext,
    ValidationRule,
    specified_rules,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

MAX_TOKENS: Final = 1000
MAX_ALIASES: Final = 15


class MaxAliases(ValidationRule):
    """Refuses documents that ask for the same again and again under other names.

    Each field of the text counts once, so that checking costs no more than reading.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._aliases = 0

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Count an alias; the first one too many is told."""
        self._aliases += node.alias is not None
        if node.alias is not None and self._aliases == MAX_ALIASES + 1:
            message = f"The document has more than {MAX_ALIASES} aliases."
            self.report_error(GraphQLError(message, node))


class OneOperation(ValidationRule):
    """Refuses several operations where none is chosen (GraphQL specification, section 6.1)."""

    def enter_document(self, node: DocumentNode, *_: object) -> None:
        """Count the operations."""
        operations = [
            definition
            for definition in node.definitions
            if isinstance(definition, OperationDefinitionNode)
        ]
        if len(operations) > 1:
            message = "The document has several operations: choose one by `operationName`."
            self.report_error(GraphQLError(message, operations))


def validation_rules(
    *, names_operation: bool, introspection: bool
) -> tuple[type[ASTValidationRule], ...]:
    """Return the rules of a document: the specification's, Strawberry's and the gateway's."""
    return (
        *specified_rules,
        MaxAliases,
        *(() if names_operation else (OneOperation,)),
        *(() if introspection else (NoSchemaIntrospectionCustomRule,)),
        MaybeNullValidationRule,
        OneOfInputValidationRule,
    )
