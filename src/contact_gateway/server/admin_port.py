"""The operator's port: metrics and health checks, where callers need not reach them.

Both ports lead to one application in one event loop. The admin port has connections of its own, so
it answers whatever the callers' connections do, and until the process ends.
"""

from typing import Any

from contact_gateway.faces.application import IS_ADMIN
from contact_gateway.server.protocol import HttpProtocol


class AdminProtocol(HttpProtocol):
    """One connection to the admin port."""

    def request_state(self) -> dict[str, Any]:
        """Return the ASGI `state` of a new request, marked for the application."""
        return super().request_state() | {IS_ADMIN: True}
