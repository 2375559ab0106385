"""GraphQL over HTTP: requests, responses, and GraphiQL for browsers.

Source: the GraphQL-over-HTTP specification. `statuses` has its table of statuses.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from graphql import ExecutionResult, GraphQLError
from starlette.requests import Request
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from contact_gateway.contacts.origin import Face
from contact_gateway.faces.graphql.document_access import DocumentAccess
from contact_gateway.faces.graphql.execution import ExecutableSchema, GraphQLRequest
from contact_gateway.faces.graphql.statuses import (
    JSON_BY_DEFAULT,
    Representation,
    Result,
    negotiate,
    prefers_html,
)
from contact_gateway.faces.http import (
    Endpoint,
    Response,
    TransportCode,
    TransportError,
    html_page,
    json_response,
    method_not_allowed,
    transport_error_of,
)
from contact_gateway.faces.json_body import BodyLimits, parse_json, read_json
from contact_gateway.faces.request_context import RequestContext

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_OUTAGES: Final = frozenset({TransportCode.SERVICE_UNAVAILABLE, TransportCode.SEARCH_TIMEOUT})
_WITHOUT_DATA: Final = frozenset({Result.REQUEST_ERROR, Result.FAULT})
# Clients with automatic persisted queries recognise this code, and send the document itself.
_PERSISTED_QUERY_NOT_SUPPORTED: Final = "PERSISTED_QUERY_NOT_SUPPORTED"

# Where graphql-core's messages quote values, and what stays. Suggestions end with a question mark.
_VALUES: Final = [
    (re.compile(pattern, re.DOTALL), rest)
    for pattern, rest in (
        (r"\? Found: .*", "?"),
        (r"(,| -)? found: .*", "."),
        (r", found (BlockString|String|Int|Float) .*", "."),
        (r"(Unexpected (BlockString|String|Int|Float)) .*", r"\1."),
        (r"(cannot represent[^:]*value): .*", r"\1."),
        (r"Value '.*' does not exist in ", "Value does not exist in "),
        # Its end was cut.
        (r"Value '.*", "Value does not exist in its enum."),
    )
]
_MAX_MESSAGE_LENGTH: Final = 1_000

# The page is not among its assets, so it is always served with its policy.
_FOLDER: Final = files("contact_gateway.faces.graphql")
_EXPLORER_POLICY: Final = (
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "font-src data:",
    "connect-src 'self'",
)


def explorer_assets() -> Mount:
    """Return the route of GraphiQL's scripts and styles."""
    return Mount("/graphql/explorer", StaticFiles(directory=str(_FOLDER / "explorer")))


class _PersistedQueryError(Exception):
    """The request has the hash of a document instead of the document."""


class GraphQLEndpoint(Endpoint):
    """The endpoint at `/graphql` and `/api/v1/graphql`."""

    def __init__(
        self, schema: ExecutableSchema, body_limits: BodyLimits, *, explorer: bool
    ) -> None:
        self._schema: Final = schema
        self._document_access: Final = partial(DocumentAccess, limits=schema.limits)
        self._body_limits: Final = body_limits
        self._explorer: Final = (_FOLDER / "explorer.html").read_bytes() if explorer else None

    async def respond(self, request: Request, context: RequestContext) -> Response:
        """Return the result of a document, or GraphiQL."""
        context.face = Face.GRAPHQL
        accept = context.headers.get("accept", "")
        if self._explorer and context.method in _SAFE_METHODS and prefers_html(accept):
            context.operation, context.outcome = "explorer", "OK"
            if request.scope["path"] == "/graphql":
                return html_page(self._explorer, *_EXPLORER_POLICY)
            # The page and its assets have one address.
            headers = {"Location": f"{context.root_path}/graphql"}
            return Response.of(b"", None, HTTPStatus.TEMPORARY_REDIRECT, headers)
        context.operation = "graphql"
        accepted = negotiate(accept)
        representation = accepted or JSON_BY_DEFAULT
        try:
            if context.method in _SAFE_METHODS:
                _refuse_without_document(request, context)
            if accepted is None:
                raise TransportError(
                    TransportCode.NOT_ACCEPTABLE,
                    "No acceptable media type. Accept application/graphql-response+json or "
                    "application/json. Answers are not streamed.",
                )
            if context.method == "POST":
                parameters = await read_json(request, context.headers, self._body_limits)
            elif context.method in _SAFE_METHODS:
                parameters = _query_parameters(request, self._body_limits.max_json_depth)
            else:
                raise method_not_allowed(
                    "GET, HEAD, POST", "Method not allowed. Use POST, or GET for queries."
                )
            context.caller.decorate(self._document_access)
            result = await self._schema.execute(
                _graphql_request(parameters),
                context,
                queries_only=context.method in _SAFE_METHODS,
            )
        except _PersistedQueryError:
            # Clients also recognise this message.
            error = _bad_request("PersistedQueryNotSupported")
            return _error_response(error, _PERSISTED_QUERY_NOT_SUPPORTED, context, representation)
        except TransportError as error:
            return _error_response(error, error.code, context, representation)
        return _result_response(result, context, representation)


def _refuse_without_document(request: Request, context: RequestContext) -> None:
    """Raise an error that names what is offered instead of what a GET seems to be for."""
    if context.headers.get("upgrade", "").lower() == "websocket":
        raise _bad_request(
            "WebSockets are not supported, since there are no subscriptions. Send queries and "
            "mutations by POST."
        )
    if not request.query_params and prefers_html(context.headers.get("accept", "")):
        raise _bad_request("GraphiQL is switched off here. Send GraphQL documents by POST.")


def _query_parameters(request: Request, max_json_depth: int) -> dict[str, object]:
    parameters: dict[str, object] = dict(request.query_params)
    for name in ("variables", "extensions"):
        text = request.query_params.get(name)
        if text is not None:
            encoded = text.encode(errors="surrogatepass")
            parameters[name] = parse_json(encoded, max_json_depth) if encoded else None
    return parameters


def _graphql_request(parameters: object) -> GraphQLRequest:
    if isinstance(parameters, list):
        raise _bad_request("Batching is not supported. Send one operation per request.")
    if not isinstance(parameters, dict):
        raise _bad_request("The body is not a JSON object. Send an object with `query`.")
    query = parameters.get("query")
    variables = parameters.get("variables")
    operation_name = parameters.get("operationName")
    extensions = parameters.get("extensions")
    if not query and isinstance(extensions, dict) and extensions.get("persistedQuery") is not None:
        raise _PersistedQueryError
    if not isinstance(query, str) or not query.strip():
        raise _bad_request("`query` must be a GraphQL document.")
    if variables is not None and not isinstance(variables, dict):
        raise _bad_request("`variables` must be an object or null.")
    if operation_name is not None and not isinstance(operation_name, str):
        raise _bad_request("`operationName` must be a string or null.")
    if extensions is not None and not isinstance(extensions, dict):
        raise _bad_request("`extensions` must be an object or null.")
    return GraphQLRequest(query, variables, operation_name or None)


def _bad_request(message: str) -> TransportError:
    return TransportError(TransportCode.BAD_REQUEST, message)


def _error_response(
    error: TransportError, code: str, context: RequestContext, representation: Representation
) -> Response:
    """Return the response to a request that is not executed. REST does not have all codes."""
    context.outcome = code
    extensions = {"code": code, "requestId": context.request_id}
    body = {"errors": [{"message": error.message, "extensions": extensions}]}
    return json_response(body, error.code.status, error.headers, representation.content_type)


def _result_response(
    result: ExecutionResult, context: RequestContext, representation: Representation
) -> Response:
    body: dict[str, object] = {}
    headers: dict[str, str] = {}
    kind = Result.EXECUTED
    if result.errors:
        errors = [_PublicError(error, context.request_id) for error in _listed(result.errors)]
        context.outcome = str(errors[0].code)
        body["errors"] = [error.formatted for error in errors]
        for error in errors:
            headers |= error.headers
        kind = _kind(result, errors)
    elif context.outcome is None:
        context.outcome = "OK"
    if kind not in _WITHOUT_DATA:
        body["data"] = result.data
    if context.replayed:
        body["extensions"] = {"idempotentReplayed": context.replayed}
    if context.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return json_response(body, representation.statuses[kind], headers, representation.content_type)


def _listed(errors: Sequence[GraphQLError]) -> Iterator[GraphQLError]:
    """Yield the errors that the response has: of fields beyond a limit, the first stands for all.

    There may be as many of them as the limit allows records.
    """
    is_exceeded = False
    for error in errors:
        is_limit = "limit" in (error.extensions or ())
        if not (is_limit and is_exceeded):
            yield error
        is_exceeded = is_exceeded or is_limit


def _kind(result: ExecutionResult, errors: Sequence["_PublicError"]) -> Result:
    """Return the kind of a result with errors."""
    # Only errors of fields have a path (GraphQL specification, section 7.1.2).
    request_errors = [error for error in errors if not error.has_path]
    if request_errors:
        is_fault = any(error.code is TransportCode.INTERNAL_ERROR for error in request_errors)
        return Result.FAULT if is_fault else Result.REQUEST_ERROR
    data = result.data or {}
    failed = {error.path[0] for error in result.errors or () if error.path}
    is_outage = all(error.code in _OUTAGES for error in errors) and all(
        data[key] is None and key in failed for key in data
    )
    return Result.UNAVAILABLE if is_outage else Result.EXECUTED


class _PublicError:
    """A GraphQL error as the caller sees it: without internals, and without the values sent."""

    def __init__(self, error: GraphQLError, request_id: str) -> None:
        original = error.original_error
        self.has_path: Final = error.path is not None
        self.headers: Final[dict[str, str]] = {}
        formatted = dict(error.formatted)
        extensions: dict[str, object] = dict(error.extensions or {})
        if original is None or isinstance(original, GraphQLError):
            # Clients log messages, and values may be personal data. Cut first: the time that the
            # patterns take grows with the names in the message, which graphql-core never shortens.
            message = error.message[:_MAX_MESSAGE_LENGTH]
            # Callers know the value as null, its name in JSON.
            message = message.replace("not to be None.", "not to be null.")
            for pattern, rest in _VALUES:
                message = pattern.sub(rest, message)
            formatted["message"] = message
        else:
            failure = transport_error_of(original)
            formatted["message"] = failure.message
            extensions = {"code": failure.code}
            self.headers.update(failure.headers)
            if failure.retry_after_seconds is not None:
                extensions["retryAfterSeconds"] = failure.retry_after_seconds
        if "retryAfterSeconds" in extensions:
            self.headers["Retry-After"] = str(extensions["retryAfterSeconds"])
        self.code: Final = extensions.setdefault("code", TransportCode.BAD_REQUEST)
        extensions["requestId"] = request_id
        self.formatted: Final = formatted | {"extensions": extensions}
