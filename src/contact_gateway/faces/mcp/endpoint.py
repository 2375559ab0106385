"""MCP over streamable HTTP, stateless and with JSON answers, by the official SDK.

Source: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, TypeGuard, cast

import orjson
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from contact_gateway.contacts.origin import Face
from contact_gateway.contacts.source import KnownFilters
from contact_gateway.faces.accept import accepts
from contact_gateway.faces.http import (
    TransportCode,
    TransportError,
    json_body,
    method_not_allowed,
    transport_error_of,
)
from contact_gateway.faces.json_body import BodyLimits, read_json
from contact_gateway.faces.mcp.descriptions import INSTRUCTIONS, described_tools
from contact_gateway.faces.request_context import request_context_of
from contact_gateway.faces.rest.documents import Document

# Any: the SDK's own type parameters.
_Context = ServerRequestContext[Any, Any]
_ARGUMENTS: Final = "contact_gateway.mcp_arguments"
_JSON: Final = "application/json"


class McpEndpoint:
    """The ASGI application at `/mcp`. Web pages of these origins may call it; `*` is any."""

    def __init__(
        self, body_limits: BodyLimits, filters: KnownFilters, origins: Sequence[str]
    ) -> None:
        self._body_limits: Final = body_limits
        self._origins: Final = frozenset(origins)
        self._tools: Final = described_tools(filters)
        server = Server[Any](
            "contact-gateway",
            version=version("contact-gateway"),
            title="contact-gateway",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        # In place of the SDK's spans: the gateway has its own, without what a caller sent.
        server.middleware = [_record_refusals]
        self._sessions: Final = StreamableHTTPSessionManager(
            server,
            stateless=True,
            json_response=True,
            # The gateway has limited the body before.
            max_request_body_size=sys.maxsize,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Serve requests inside."""
        is_open, is_closing = asyncio.Event(), asyncio.Event()

        async def run() -> None:
            async with self._sessions.run():
                is_open.set()
                await is_closing.wait()

        # In a task of its own, since a task group wraps every exception that passes it.
        running = asyncio.create_task(run())
        await is_open.wait()
        try:
            yield
        finally:
            is_closing.set()
            await running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        context = request_context_of(scope)
        context.face, context.operation = Face.MCP, "mcp"
        if scope["method"] != "POST":
            raise method_not_allowed(
                "POST", "Method not allowed. There are no streams and no sessions. Use POST."
            )
        origin = context.headers.get("origin")
        # DNS rebinding changes where a page's host name leads, not its origin, so the origin is
        # checked and not the host (MCP specification, Security Warning of the transports).
        if origin is not None and self._origins.isdisjoint((origin, "*")):
            raise TransportError(
                TransportCode.FORBIDDEN,
                "CONTACT_GATEWAY_CORS_ORIGINS does not list the origin of this page.",
            )
        # The SDK would refuse a client without the header, and without an error object.
        if not accepts(context.headers.get("accept", ""), _JSON):
            raise TransportError(
                TransportCode.NOT_ACCEPTABLE,
                f"No acceptable media type. Accept {_JSON}. Answers are not streamed.",
            )
        others = (each for each in scope["headers"] if each[0] != b"accept")
        scope["headers"] = [*others, (b"accept", _JSON.encode())]
        message = await read_json(Request(scope, receive), context.headers, self._body_limits)
        if not _is_message(message):
            raise TransportError(
                TransportCode.BAD_REQUEST,
                "Send one JSON-RPC 2.0 request or notification. Batches are not supported.",
            )
        params = message.get("params", {})
        arguments = params.get("arguments")
        if isinstance(arguments, dict):
            # The SDK would parse them differently from the other faces.
            scope[_ARGUMENTS] = arguments
            message = {**message, "params": {**params, "arguments": {}}}
        text = json.dumps(message, ensure_ascii=False, default=float)
        body = text.encode(errors="surrogatepass")
        messages: list[Message] = [{"type": "http.request", "body": body}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._sessions.handle_request(scope, replay, send)
        if context.outcome is None:
            is_refused = context.status >= HTTPStatus.BAD_REQUEST
            context.outcome = TransportCode.BAD_REQUEST if is_refused else "OK"

    async def _list_tools(
        self, _context: _Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[tool.description for tool in self._tools.values()])

    async def _call_tool(self, ctx: _Context, params: CallToolRequestParams) -> CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, "Unknown tool. The method tools/list lists them.")
        scope = _scope_of(ctx)
        context = request_context_of(scope)
        context.operation, context.outcome = params.name, "OK"
        try:
            document = await tool.call(context, scope.get(_ARGUMENTS, {}))
        except Exception as error:  # noqa: BLE001 - it is logged, and the SDK would show its text
            failure = transport_error_of(error)
            body = failure.envelope(context.request_id)
            document = Document(failure.code.status, body, outcome=failure.code)
        context.outcome = document.outcome
        text = json_body(document.body)
        return CallToolResult(
            content=[TextContent(text=text.decode())],
            structured_content=orjson.loads(text),
            is_error="error" in document.body,
        )


def _is_message(body: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a body is a request or a notification (JSON-RPC 2.0, section 4)."""
    return (
        isinstance(body, dict)
        and body.get("jsonrpc") == "2.0"
        and isinstance(body.get("method"), str)
        and isinstance(body.get("params", {}), dict)
        and type(body.get("id", "")) in {int, str}
    )


def _scope_of(ctx: _Context) -> Scope:
    # The SDK has other transports too, whose messages have no request.
    return cast(Request, ctx.request).scope


async def _record_refusals(ctx: _Context, call_next: CallNext) -> HandlerResult:
    """Record that a message is refused as JSON-RPC, whose errors may have the status 200."""
    try:
        return await call_next(ctx)
    except Exception:
        request_context_of(_scope_of(ctx)).outcome = TransportCode.BAD_REQUEST
        raise
