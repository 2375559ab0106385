"""Executes GraphQL requests. Documents are parsed, validated and compiled once, then cached.

Strawberry builds the schema. Its own execution would parse and validate a document at each request.
Source: the GraphQL specification, sections 5 and 6.1.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

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
    validate,
    visit,
)

from contact_gateway.faces.graphql.document_cache import (
    DocumentCache,
    Operation,
    ValidDocument,
)
from contact_gateway.faces.graphql.limits import MAX_ERRORS, DocumentLimits, validation_rules
from contact_gateway.faces.http import TransportCode, TransportError, method_not_allowed
from contact_gateway.faces.json_body import MAX_DIGITS
from graphql_plans import Compiler, Result

_LONG_INTEGER: Final = re.compile(f"[0-9]{{{MAX_DIGITS + 1}}}")


class GraphQLRequest(NamedTuple):
    """The parameters of a GraphQL request (GraphQL over HTTP, section 5)."""

    query: str
    variables: dict[str, object] | None = None
    operation_name: str | None = None


class ExecutableSchema:
    """A schema, with the limits of documents and the cache of valid ones.

    Without introspection, documents cannot query the schema, and errors do not suggest its names.

    Attributes:
        limits: the limits.
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
        self.limits: Final = limits
        self._hide_suggestions: Final = not introspection
        self._compiler: Final = Compiler(self._schema, hide_suggestions=self._hide_suggestions)
        self._rules: Final = validation_rules(introspection=introspection)

    async def execute(
        self, request: GraphQLRequest, context: object, *, queries_only: bool
    ) -> ExecutionResult:
        """Execute a request. The result has the errors of its document, variables and fields.

        Raises:
            TransportError: the document has no such operation, or its type is not allowed.
        """
        document = self._documents.get(request.query)
        operation = None if document is None else document.operations.get(request.operation_name)
        try:
            if operation is None:
                operation = self._prepare(request, document, queries_only=queries_only)
            else:
                _require_allowed(operation.type, queries_only=queries_only)
            result = operation.execute(request.variables or {}, context)
            return result if isinstance(result, ExecutionResult) else await result
        except TransportError:
            raise
        except _InvalidDocumentError as invalid:
            return ExecutionResult(None, invalid.errors)
        except GraphQLError as error:
            return ExecutionResult(None, [error])
        except Exception as fault:  # noqa: BLE001 - reported and logged as a resolver's is
            return ExecutionResult(None, [GraphQLError(str(fault), original_error=fault)])

    def _prepare(
        self, request: GraphQLRequest, document: ValidDocument | None, *, queries_only: bool
    ) -> Operation:
        """Return an operation that was not executed before; `document` is cached or None."""
        name = request.operation_name
        parsed = self._parse(request.query) if document is None else document.document
        operations = _operations(parsed, name)
        operation_type = operations[0].operation
        _require_allowed(operation_type, queries_only=queries_only)
        errors = self._errors(parsed, request.query) if document is None else []
        if name is None and len(operations) > 1:
            message = "The document has several operations. Choose one with `operationName`."
            errors.insert(0, GraphQLError(message, operations))
        if errors:
            raise _InvalidDocumentError(errors)
        if document is None:
            document = ValidDocument(parsed)
            self._documents.put(request.query, document)

        def by_graphql_core(variables: dict[str, object], context: object) -> Result:
            return execute(
                self._schema,
                parsed,
                context_value=context,
                variable_values=variables,
                operation_name=name,
                # Strawberry's executor adds incremental delivery, which the schema does not use.
                executor_class=Executor,
                hide_suggestions=self._hide_suggestions or _may_fail_to_suggest(repr(variables)),
            )

        add_parts = partial(self._documents.add_plan_parts, request.query, document)
        by_plan = self._compiler.compile(parsed, name, by_graphql_core, add_parts)
        # Compiling may already have made the plans too large.
        operation = Operation(
            operation_type, by_graphql_core if document.is_too_large_to_plan else by_plan
        )
        document.operations[name] = operation
        return operation

    def _parse(self, text: str) -> DocumentNode:
        document = self.limits.parse(text)
        if _LONG_INTEGER.search(text):
            shortened: DocumentNode = visit(document, _ShortenIntegers())
            return shortened
        return document

    def _errors(self, document: DocumentNode, text: str) -> list[GraphQLError]:
        exceeded = self.limits.exceeded_limit(document)
        if exceeded is not None:
            raise exceeded
        return validate(
            self._schema,
            document,
            self._rules,
            max_errors=MAX_ERRORS,
            hide_suggestions=self._hide_suggestions or _may_fail_to_suggest(text),
        )


class _InvalidDocumentError(Exception):
    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__()
        self.errors: Final = errors


class _ShortenIntegers(Visitor):
    """Cuts whole numbers to as many digits as the JSON parser allows."""

    def enter_int_value(self, node: IntValueNode, *_: object) -> IntValueNode:
        return IntValueNode(value=node.value[:MAX_DIGITS], loc=node.loc)


def _may_fail_to_suggest(text: str) -> bool:
    """Return whether a text may have U+0130, on which graphql-core's search for names fails."""
    return "\u0130" in text or "\\u" in text


def _operations(document: DocumentNode, name: str | None) -> Sequence[OperationDefinitionNode]:
    """Return the operations with a name; without one, all operations.

    Raises:
        TransportError: the document has no such operation.
    """
    operations = [
        each
        for each in document.definitions
        if isinstance(each, OperationDefinitionNode)
        and (name is None or (each.name is not None and each.name.value == name))
    ]
    if not operations:
        raise TransportError(
            TransportCode.BAD_REQUEST, "The document has no such operation. Check `operationName`."
        )
    return operations


def _require_allowed(operation_type: OperationType, *, queries_only: bool) -> None:
    if operation_type is OperationType.SUBSCRIPTION:
        raise TransportError(
            TransportCode.BAD_REQUEST,
            "Subscriptions are not supported. Send a query or a mutation.",
        )
    if queries_only and operation_type is OperationType.MUTATION:
        raise method_not_allowed("POST", "This method cannot run mutations. Send them by POST.")
