"""How a GraphQL request is executed: its document is parsed, validated and run by graphql-core.

Source: the GraphQL specification, sections 5 and 6.1. Strawberry makes the schema; its own way to
execute would parse and validate each document anew.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    parse,
    validate,
)

from contact_gateway.faces.graphql.document_cache import DocumentCache, DocumentKey
from contact_gateway.faces.graphql.limits import MAX_TOKENS, validation_rules


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The parameters of a GraphQL request (GraphQL over HTTP, section 5)."""

    query: str
    variables: dict[str, object] | None = None
    operation_name: str | None = None


class UnknownOperationError(Exception):
    """The document has no operation, or none of the name that was given."""


@dataclass(eq=False)
class OperationNotAllowedError(Exception):
    """The operation is of a type that is not executed here."""

    operation_type: OperationType


class ExecutableSchema:
    """A schema, the rules for documents on it, and the documents that were found valid.

    Without introspection no document may ask for the schema, and no error suggests its names.
    """

    def __init__(
        self, schema: strawberry.Schema, documents: DocumentCache, *, introspection: bool
    ) -> None:
        self._schema: Final = schema._schema  # noqa: SLF001 - there is no public name for it
        self._documents: Final = documents
        self._hide_suggestions: Final = not introspection
        self._rules: Final = {
            names_operation: validation_rules(
                names_operation=names_operation, introspection=introspection
            )
            for names_operation in (False, True)
        }

    async def execute(
        self, request: GraphQLRequest, context: object, allowed: Collection[OperationType]
    ) -> ExecutionResult:
        """Execute a request; the result tells what went wrong with it.

        Raises:
            UnknownOperationError: there is no operation to execute.
            OperationNotAllowedError: its type is not among the allowed ones.
        """
        try:
            document = self._valid_document(request, allowed)
            if isinstance(document, list):
                return ExecutionResult(None, document)
            result = execute(
                self._schema,
                document,
                context_value=context,
                variable_values=request.variables,
                operation_name=request.operation_name,
                # Strawberry's is for incremental delivery, which the schema does not have.
                executor_class=Executor,
                hide_suggestions=self._hide_suggestions,
            )
            return result if isinstance(result, ExecutionResult) else await result
        except (UnknownOperationError, OperationNotAllowedError):
            raise
        except GraphQLError as error:
            return ExecutionResult(None, [error])
        except Exception as fault:  # noqa: BLE001 - it is told and logged as a resolver's fault is
            return ExecutionResult(None, [GraphQLError(str(fault), original_error=fault)])

    def _valid_document(
        self, request: GraphQLRequest, allowed: Collection[OperationType]
    ) -> DocumentNode | list[GraphQLError]:
        """Return the document, or why it is not valid."""
        key = DocumentKey(request.query, names_operation=request.operation_name is not None)
        kept = self._documents.get(key)
        document = parse(request.query, max_tokens=MAX_TOKENS) if kept is None else kept
        operation_type = _operation(document, request.operation_name).operation
        if operation_type not in allowed:
            raise OperationNotAllowedError(operation_type)
        if kept is None:
            errors = validate(
                self._schema,
                document,
                self._rules[key.names_operation],
                hide_suggestions=self._hide_suggestions,
            )
            if errors:
                return errors
            self._documents.keep(key, document)
        return document


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """Return the operation of a name; without a name, the first.

    Raises:
        UnknownOperationError: there is none.
    """
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode) and (
            name is None or (definition.name is not None and definition.name.value == name)
        ):
            return definition
    raise UnknownOperationError
