"""How a GraphQL request is executed: its document is parsed and validated once, and compiled.

Source: the GraphQL specification, sections 5 and 6.1. Strawberry makes the schema; its own way to
execute would parse and validate each document anew.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    Visitor,
    execute,
    parse,
    validate,
    visit,
)

from contact_gateway.faces.graphql.document_cache import DocumentCache, DocumentKey, ValidDocument
from contact_gateway.faces.graphql.limits import MAX_ERRORS, DocumentLimits, validation_rules
from contact_gateway.faces.json_body import MAX_DIGITS
from graphql_plans import Compiler, Execute, Result

_MORE_DIGITS: Final = re.compile(f"[0-9]{{{MAX_DIGITS + 1}}}")


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
        self,
        schema: strawberry.Schema,
        documents: DocumentCache,
        limits: DocumentLimits,
        *,
        introspection: bool,
    ) -> None:
        self._schema: Final = schema._schema  # noqa: SLF001 - there is no public name for it
        self._documents: Final = documents
        self._limits: Final = limits
        self._hide_suggestions: Final = not introspection
        self._compiler: Final = Compiler(self._schema, hide_suggestions=self._hide_suggestions)
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
            valid = self._valid_document(request, allowed)
            if isinstance(valid, list):
                return ExecutionResult(None, valid)
            operation = valid.operations.get(request.operation_name)
            if operation is None:
                operation = self._operation(valid, request)
                valid.operations[request.operation_name] = operation
            result = operation(request.variables or {}, context)
            return result if isinstance(result, ExecutionResult) else await result
        except (UnknownOperationError, OperationNotAllowedError):
            raise
        except GraphQLError as error:
            return ExecutionResult(None, [error])
        except Exception as fault:  # noqa: BLE001 - it is told and logged as a resolver's fault is
            return ExecutionResult(None, [GraphQLError(str(fault), original_error=fault)])

    def _operation(self, valid: ValidDocument, request: GraphQLRequest) -> Execute:
        """Return what executes an operation; without the compiler, it is graphql-core."""
        document, name = valid.document, request.operation_name

        def by_reference(variables: dict[str, object], context: object) -> Result:
            return execute(
                self._schema,
                document,
                context_value=context,
                variable_values=variables,
                operation_name=name,
                # Strawberry's is for incremental delivery, which the schema does not have.
                executor_class=Executor,
                hide_suggestions=self._hide_suggestions,
            )

        grow = partial(self._documents.grow, _key(request), valid)
        operation = self._compiler.compile(document, name, by_reference, grow)
        return by_reference if valid.is_too_large_to_plan else operation

    def _valid_document(
        self, request: GraphQLRequest, allowed: Collection[OperationType]
    ) -> ValidDocument | list[GraphQLError]:
        """Return the document, or why it is not valid."""
        key = _key(request)
        kept = self._documents.get(key)
        valid = kept or ValidDocument(_parsed(request.query, self._limits.tokens))
        operation_type = _definition(valid.document, request.operation_name).operation
        if operation_type not in allowed:
            raise OperationNotAllowedError(operation_type)
        if kept is None:
            exceeded = self._limits.exceeded_by(valid.document)
            if exceeded is not None:
                return [exceeded]
            errors = validate(
                self._schema,
                valid.document,
                self._rules[key.names_operation],
                max_errors=MAX_ERRORS,
                hide_suggestions=self._hide_suggestions,
            )
            if errors:
                return errors
            self._documents.keep(key, valid)
        return valid


def _key(request: GraphQLRequest) -> DocumentKey:
    return DocumentKey(request.query, names_operation=request.operation_name is not None)


def _parsed(text: str, max_tokens: int) -> DocumentNode:
    document = parse(text, max_tokens=max_tokens)
    if _MORE_DIGITS.search(text):
        shortened: DocumentNode = visit(document, _FewerDigits())
        return shortened
    return document


class _FewerDigits(Visitor):
    """Shortens whole numbers to as many digits as JSON's may have."""

    def enter_int_value(self, node: IntValueNode, *_: object) -> IntValueNode:
        return IntValueNode(value=node.value[:MAX_DIGITS], loc=node.loc)


def _definition(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
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
