"""The operator's port: metrics and health checks, where callers need not reach them.

Both ports lead to one application in one event loop. The admin port has connections of its own, so
it answers whatever the callers' connections do, and until the process ends.
"""

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from contact_gateway.faces.application import IS_ADMIN
from contact_gateway.server.protocol import HttpProtocol


class AdminProtocol(HttpProtocol):
    """One connection to the admin port."""

    def request_state(self) -> dict[str, Any]:
        """Return the ASGI `state` of a new request, marked for the application."""
        return super().request_state() | {IS_ADMIN: True}


class AdminPort:
    """Serves the admin port of one process.

    Args:
        listener: a listening socket, which several processes may share.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener: Final = listener
        self._state: Final = ServerState()

    @property
    def is_answering(self) -> bool:
        """Whether requests are in flight."""
        return bool(self._state.tasks)

    def set_default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Set the headers of each response, such as `Date`."""
        self._state.default_headers = headers

    # Any: uvicorn's type of the application's state.
    async def open(self, config: uvicorn.Config, app_state: dict[str, Any]) -> None:
        """Accept requests. The port is closed with the event loop, at the end of the process."""
        await asyncio.get_running_loop().create_server(
            lambda: AdminProtocol(config, self._state, app_state), sock=self._listener
        )
