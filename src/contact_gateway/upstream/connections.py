"""The connections to upstream: each call is one exchange over one of them.

They are aiohttp's because of the measurements in `benchmarks/`. Only what talks to upstream imports
this module: aiohttp takes a tenth of the start.
"""

import json
import math
import os
import select
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Final
from weakref import WeakSet

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from contact_gateway.upstream.calls import (
    MAX_RESPONSE_BYTES,
    Call,
    Delivery,
    Response,
    UpstreamUnavailable,
)
from contact_gateway.upstream.proxy import Proxy

_MAX_CONNECT_SECONDS: Final = 5.0
# Shorter than servers' usual five seconds, so that no creation meets a connection that is closing.
_KEEP_ALIVE_SECONDS: Final = 4.0
_CHUNK_BYTES: Final = 65_536
_MAX_HEADER_BYTES: Final = 65_536
# Each value of a refusal is looked at. A million of them would block the event loop for seconds.
_MAX_REFUSAL_BYTES: Final = 64 * 1024


class Connections:
    """A pool of connections, which are opened on demand.

    Args:
        base_url: the URL that the paths of calls are relative to.
        proxy: the proxy on the way, if there is one.
        limit: how many connections are open at most.
    """

    def __init__(self, base_url: str, proxy: Proxy | None, limit: int) -> None:
        self._base_url: Final = base_url
        self._proxy: Final = proxy
        tls: ssl.SSLContext | bool = True
        if base_url.startswith("https:"):
            # The default settings, with the CAs of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(("http/1.1",))
        self._session: Final = aiohttp.ClientSession(
            connector=_Connector(limit, tls=tls),
            # A cookie that upstream sets for one caller must not be sent for another.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "User-Agent": f"contact-gateway/{version('contact-gateway')}",
            },
            proxy=None if self._proxy is None else self._proxy.url,
            # With True, aiohttp would also send credentials from ~/.netrc.
            trust_env=False,
            # The default of 8 KiB loses the answer to a creation behind a large header.
            max_field_size=_MAX_HEADER_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def exchange(self, call: Call, headers: Mapping[str, str], seconds: float) -> Response:
        """Send a call with headers; return the response, which comes in time.

        Raises:
            UpstreamUnavailable: there is no response.
        """
        if self._session.closed:
            # A request that was cut off at the stop may still retry its call.
            raise UpstreamUnavailable("the gateway is stopping", Delivery.NEVER_SENT)
        url = URL(f"{self._base_url}/{call.path}", encoded=True)
        payload = None
        if call.body is not None:
            payload = aiohttp.BytesPayload(orjson.dumps(call.body), content_type="application/json")
        try:
            async with self._session.request(
                call.method,
                url.with_query(call.query) if call.query else url,
                data=payload,
                headers=headers,
                timeout=_client_timeout(seconds),
                allow_redirects=False,
                proxy_headers=None if self._proxy is None else self._proxy.headers,
            ) as response:
                content = await _content_of(call, response)
        except UnicodeError as error:
            raise UpstreamUnavailable(
                "the upstream host name is invalid", Delivery.NEVER_SENT
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            # Only the type, because the message may contain what a caller sent.
            raise UpstreamUnavailable(
                f"the upstream request failed: {type(error).__name__}",
                Delivery.UNKNOWN,
                is_transient=not isinstance(error, TimeoutError),
            ) from None
        is_read = response.ok or len(content or b"") <= _MAX_REFUSAL_BYTES
        body = _parse_json(content) if content and is_read and not call.is_passed_through else None
        return Response(response.status, response.headers, body, content)


async def _content_of(call: Call, response: aiohttp.ClientResponse) -> bytes | None:
    """Read the body that a call needs; return None if it is too large or incomplete.

    The connection of a body that is too large is not reused.
    """
    if not call.wants_body:
        # HEAD would keep the connection, and fails if a server sends a body all the same.
        response.close()
        return b""
    length = response.content_length
    body = bytearray()
    try:
        if (
            length is not None
            and length <= MAX_RESPONSE_BYTES
            and "Content-Encoding" not in response.headers
        ):
            return await response.read()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                return None
    except (aiohttp.ClientError, OSError):
        if call.method == "GET":
            raise
        # The status says whether a creation succeeded.
        return None
    return bytes(body)


def _reason(cause: Exception) -> str:
    """Return why there is no connection, from what the system says: callers have no part in it."""
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses it with status {cause.status}"
    if not isinstance(cause, aiohttp.ClientConnectorError):
        return type(cause).__name__
    error = cause.os_error
    # asyncio repeats the address in the text of other errors.
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None:
        return error.strerror or type(cause).__name__
    return os.strerror(error.errno)


class _Connector(aiohttp.TCPConnector):
    """A connection pool that distinguishes failures to connect from failures of a request.

    Otherwise both may be one exception: a proxy may end its connection before it has one to
    upstream.

    aiohttp 3.14 also reuses a connection over which upstream has sent something while it was idle,
    such as a 408, and takes that for the response to the next request.
    """

    def __init__(self, limit: int, *, tls: ssl.SSLContext | bool) -> None:
        super().__init__(limit=limit, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=tls)
        self._used: Final[WeakSet[ResponseHandler]] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's name
    ) -> Connection:
        """Return a new connection, or a pooled one over which nothing has arrived.

        Raises:
            UpstreamUnavailable: there is no connection, so nothing was sent to upstream.
        """
        while True:
            try:
                connection = await super().connect(req, traces, timeout)
            except (aiohttp.ClientError, OSError) as error:
                raise UpstreamUnavailable(
                    f"no connection to upstream: {_reason(error)}",
                    Delivery.NEVER_SENT,
                    is_transient=not isinstance(error, TimeoutError),
                ) from None
            protocol = connection.protocol
            if protocol is not None and (protocol not in self._used or _is_quiet(protocol)):
                self._used.add(protocol)
                return connection
            connection.close()


def _is_quiet(protocol: ResponseHandler) -> bool:
    """Return whether upstream has neither sent anything over an idle connection nor closed it."""
    if protocol.should_close or protocol.transport is None:
        return False
    # The event loop may not have read it yet.
    poll = select.poll()
    poll.register(protocol.transport.get_extra_info("socket"), select.POLLIN)
    return not poll.poll(0)


# Cached, because constructing one takes 4 µs.
@lru_cache(maxsize=16)
def _client_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """Bound a whole exchange, and in it the wait for a pooled or new connection."""
    connect_seconds = min(seconds / 2, _MAX_CONNECT_SECONDS)
    return aiohttp.ClientTimeout(
        total=seconds,
        connect=connect_seconds,
        sock_connect=connect_seconds,
        ceil_threshold=math.inf,
    )


def _parse_json(body: bytes) -> object:
    """Parse a body; return None if it is not JSON.

    The standard library reads what orjson refuses: a byte order mark, lone surrogates, and NaN.
    """
    with suppress(ValueError):
        return orjson.loads(body)
    with suppress(ValueError, RecursionError):
        return json.loads(body, parse_constant=lambda _: None)
    return None
