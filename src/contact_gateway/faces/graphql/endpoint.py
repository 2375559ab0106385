"""GraphQL over HTTP: a request becomes a document and its variables, a result becomes an answer.

Source: the GraphQL-over-HTTP specification; its statuses stand in `statuses`.
"""

import re
from collections.abc import Sequence
from typing import Final

from graphql import ExecutionResult, GraphQLError, OperationType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contact_gateway.contacts.origin import Face
from contact_gateway.faces.graphql.document_access import DocumentAccess
from contact_gateway.faces.graphql.execution import (
    ExecutableSchema,
    GraphQLRequest,
    OperationNotAllowedError,
    UnknownOperationError,
)
from contact_gateway.faces.graphql.explorer_page import explorer_page, wants_explorer
from contact_gateway.faces.graphql.refusals import ReadRefusedError
from contact_gateway.faces.graphql.statuses import (
    JSON_BY_DEFAULT,
    Representation,
    Result,
    negotiate,
)
from contact_gateway.faces.graphql.types import GraphQLContext
from contact_gateway.faces.http import (
    JsonResponse,
    TransportCode,
    TransportError,
    failure_of,
    method_not_allowed,
)
from contact_gateway.faces.json_body import BodyLimits, parse_json, read_json
from contact_gateway.faces.request_context import RequestContext, request_context_of

_VALUES: Final = re.compile(
    r"(,| -)? found: .*|, found (Block)?String .*|(?P<what>cannot represent[^:]*value): .*",
    re.DOTALL,
)
_LONGEST_MESSAGE: Final = 1_000
_READING: Final = frozenset({"GET", "HEAD"})
_QUERIES: Final = frozenset({OperationType.QUERY})
_QUERIES_AND_MUTATIONS: Final = frozenset({OperationType.QUERY, OperationType.MUTATION})
# Clients with automatic persisted queries look for this before they send the document itself.
_PERSISTED_QUERY_NOT_SUPPORTED: Final = "PERSISTED_QUERY_NOT_SUPPORTED"


class _PersistedQueryError(Exception):
    """Only the hash of a document was sent."""


class GraphQLEndpoint:
    """The ASGI application at `/graphql`."""

    def __init__(
        self, schema: ExecutableSchema, body_limits: BodyLimits, *, explorer: bool
    ) -> None:
        self._schema: Final = schema
        self._body_limits: Final = body_limits
        self._explorer: Final = explorer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_context = request_context_of(scope)
        request_context.face = Face.GRAPHQL
        request = Request(scope, receive)
        if self._explorer and wants_explorer(request):
            response = explorer_page()
            request_context.operation, request_context.outcome = "explorer", "OK"
        else:
            response = await self._answer(request, request_context)
        await response(scope, receive, send)

    async def _answer(self, request: Request, request_context: RequestContext) -> Response:
        request_context.operation = "graphql"
        accepted = negotiate(request_context.headers.get("accept", ""))
        written = accepted or JSON_BY_DEFAULT
        try:
            if accepted is None:
                raise TransportError(
                    TransportCode.NOT_ACCEPTABLE,
                    "The answer is application/graphql-response+json or application/json.",
                )
            asked = await self._read(request, request_context)
            allowed = _QUERIES if request.method in _READING else _QUERIES_AND_MUTATIONS
            request_context.caller.decorate(DocumentAccess)
            context = GraphQLContext(
                request_context,
                asked.operation_name,
                request_context.headers.get("idempotency-key"),
            )
            result = await self._schema.execute(asked, context, allowed)
        except UnknownOperationError:
            return _refused(_bad_request("There is no such operation."), request_context, written)
        except _PersistedQueryError:
            not_supported = _bad_request("PersistedQueryNotSupported")
            return _refused(not_supported, request_context, written, _PERSISTED_QUERY_NOT_SUPPORTED)
        except OperationNotAllowedError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                no_such_kind = _bad_request("Subscriptions are not offered.")
                return _refused(no_such_kind, request_context, written)
            not_here = method_not_allowed("POST", "Send mutations by POST.")
            return _refused(not_here, request_context, written)
        except TransportError as error:
            return _refused(error, request_context, written)
        return _render(result, request_context, written)

    async def _read(self, request: Request, request_context: RequestContext) -> GraphQLRequest:
        if request.method == "POST":
            parameters = await read_json(request, request_context.headers, self._body_limits)
        elif request.method in _READING:
            parameters = _query_parameters(request, self._body_limits.max_json_depth)
        else:
            raise method_not_allowed("GET, HEAD, POST", "Send GraphQL by POST, or queries by GET.")
        return _request(parameters)


def _query_parameters(request: Request, max_json_depth: int) -> dict[str, object]:
    parameters: dict[str, object] = dict(request.query_params)
    for name in ("variables", "extensions"):
        text = request.query_params.get(name)
        if text is not None:
            encoded = text.encode(errors="surrogatepass")
            parameters[name] = parse_json(encoded, max_json_depth) if encoded else None
    return parameters


def _request(parameters: object) -> GraphQLRequest:
    if isinstance(parameters, list):
        raise _bad_request("Batches are not offered: send one operation a request.")
    if not isinstance(parameters, dict):
        raise _bad_request("The body must be a JSON object with `query`.")
    query = parameters.get("query")
    variables = parameters.get("variables")
    operation_name = parameters.get("operationName")
    extensions = parameters.get("extensions")
    if not query and isinstance(extensions, dict) and extensions.get("persistedQuery") is not None:
        raise _PersistedQueryError
    if not isinstance(query, str) or not query.strip():
        raise _bad_request("`query` must be a GraphQL document.")
    if variables is not None and not isinstance(variables, dict):
        raise _bad_request("`variables` must be an object.")
    if operation_name is not None and not isinstance(operation_name, str):
        raise _bad_request("`operationName` must be a string.")
    if extensions is not None and not isinstance(extensions, dict):
        raise _bad_request("`extensions` must be an object.")
    return GraphQLRequest(query, variables, operation_name or None)


def _render(
    result: ExecutionResult, request_context: RequestContext, written: Representation
) -> Response:
    errors = [_Told(error, request_context.request_id) for error in result.errors or ()]
    # Section 7.1.1 of the GraphQL specification: an error of a field has a path, one of the
    # request has none, and then there is no data.
    refused = [error for error in errors if not error.has_path]
    kind = Result.REQUEST_ERROR if refused else Result.EXECUTED
    if not refused and _is_outage(result, errors):
        kind = Result.UNAVAILABLE
    elif any(error.code is TransportCode.INTERNAL_ERROR for error in refused):
        kind = Result.FAULT
    body: dict[str, object] = {} if refused else {"data": result.data}
    headers: dict[str, str] = {}
    if errors:
        body = {"errors": [error.formatted for error in errors], **body}
        request_context.outcome = str(errors[0].code)
        for error in errors:
            headers |= error.headers
    elif request_context.outcome is None:
        request_context.outcome = "OK"
    return JsonResponse(
        body,
        written.statuses[kind],
        headers,
        media_type=f"{written.media_type}; charset=utf-8",
    )


def _is_outage(result: ExecutionResult, errors: Sequence["_Told"]) -> bool:
    """Tell whether nothing at all was answered, and only because the source does not answer."""
    if not all(error.code is TransportCode.SERVICE_UNAVAILABLE for error in errors):
        return False
    data = result.data or {}
    failed = {error.path[0] for error in result.errors or () if error.path}
    return bool(errors) and all(data[key] is None and key in failed for key in data)


class _Told:
    """A GraphQL error as its caller is told of it: a fault shows nothing of the inside."""

    def __init__(self, error: GraphQLError, request_id: str) -> None:
        original = error.original_error
        self.has_path: Final = error.path is not None
        self.headers: Final[dict[str, str]] = {}
        formatted = dict(error.formatted)
        extensions: dict[str, object] = dict(error.extensions or {})
        if original is not None and not isinstance(original, GraphQLError):
            failure = failure_of(original)
            formatted["message"] = failure.message
            extensions = {"code": failure.code}
            self.headers.update(failure.headers)
        else:
            formatted["message"] = _without_values(error.message)
        if isinstance(original, ReadRefusedError):
            extensions["requestId"] = request_id
        if "retryAfterSeconds" in extensions:
            self.headers["Retry-After"] = str(extensions["retryAfterSeconds"])
        self.code: Final = extensions.setdefault("code", TransportCode.BAD_REQUEST)
        self.formatted: Final = formatted | {"extensions": extensions}


def _without_values(message: str) -> str:
    """Leave out what graphql-core repeats of values: errors end up in logs, and may name people.

    It also repeats names, as long as they are, and the longer they are, the longer this takes.
    """
    return _VALUES.sub(lambda match: f"{match['what'] or ''}.", message[:_LONGEST_MESSAGE])


def _refused(
    error: TransportError,
    request_context: RequestContext,
    written: Representation,
    code: str | None = None,
) -> Response:
    """Render a request that is not executed; `code` is one that only GraphQL has."""
    request_context.outcome = code or error.code
    return JsonResponse(
        {"errors": [{"message": error.message, "extensions": {"code": request_context.outcome}}]},
        error.status,
        dict(error.headers),
        media_type=f"{written.media_type}; charset=utf-8",
    )


def _bad_request(message: str) -> TransportError:
    return TransportError(TransportCode.BAD_REQUEST, message)
