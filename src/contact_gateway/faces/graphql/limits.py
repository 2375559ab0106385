"""What a document must be beyond the specification's rules, before anything is done for it."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    ValidationContext,
    ValidationRule,
)
from strawberry.extensions import MaxTokensLimiter, SchemaExtension

from contact_gateway.faces.graphql.types import Context

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


class DocumentRules(SchemaExtension):
    """Adds these rules to the validation of each document."""

    def on_operation(self) -> Iterator[None]:
        """Choose the rules for one request."""
        # The context is of the type that the endpoint makes it with.
        context: Context = self.execution_context.context
        rules: list[type[ValidationRule]] = [MaxAliases]
        if context.operation_name is None:
            rules.append(OneOperation)
        self.execution_context.validation_rules += tuple(rules)
        yield


def limiting_extensions() -> list[type[SchemaExtension] | Callable[[], Any]]:
    """Return the extensions that hold documents within their limits.

    Their factories are of a type that Strawberry does not name.
    """
    return [lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS), DocumentRules]
