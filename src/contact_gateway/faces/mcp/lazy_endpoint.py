"""The MCP face before its first request: the SDK takes half a second and 25 MiB to import."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from starlette.types import Receive, Scope, Send

from contact_gateway.contacts.source import KnownFilters
from contact_gateway.faces.json_body import BodyLimits

if TYPE_CHECKING:
    from contact_gateway.faces.mcp.endpoint import McpEndpoint


class LazyMcpEndpoint:
    """The ASGI application at `/mcp`. The first request creates the `McpEndpoint`.

    A thread imports the SDK, so other requests do not wait.
    """

    def __init__(
        self, body_limits: BodyLimits, filters: KnownFilters, origins: Sequence[str]
    ) -> None:
        self._arguments: Final = body_limits, filters, origins
        self._stack: Final = AsyncExitStack()
        self._lock: Final = asyncio.Lock()
        self._endpoint: McpEndpoint | None = None

    def opened(self) -> AsyncExitStack:
        """Return the context manager inside which requests are served."""
        return self._stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        async with self._lock:
            endpoint = self._endpoint = self._endpoint or await self._opened_endpoint()
        await endpoint(scope, receive, send)

    async def _opened_endpoint(self) -> "McpEndpoint":
        endpoint = await asyncio.to_thread(self._imported_endpoint)
        await self._stack.enter_async_context(endpoint.opened())
        return endpoint

    def _imported_endpoint(self) -> "McpEndpoint":
        from contact_gateway.faces.mcp.endpoint import McpEndpoint  # noqa: PLC0415

        return McpEndpoint(*self._arguments)
