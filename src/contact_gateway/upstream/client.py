"""The HTTP client for upstream: a connection pool, timeouts, retries and a circuit breaker.

It uses aiohttp because of the measurements in `benchmarks/`.
"""

import asyncio
import json
import math
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Final, NamedTuple, Self, TypeAlias

import aiohttp
import orjson
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.circuit import Circuit, CircuitOpenError
from contact_gateway.upstream.proxy import proxy_for

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS: Final = 86_400

_MAX_CALLS_PER_CONNECTION: Final = 20
# Before the second and the third attempt of a call.
_MAX_PAUSES_SECONDS: Final = (0.1, 0.2)
_MAX_CONNECT_SECONDS: Final = 5.0
# Shorter than servers' usual five seconds, so that no creation meets a connection that is closing.
_KEEP_ALIVE_SECONDS: Final = 4.0
_MIN_TIMEOUT_SECONDS: Final = 0.001
_PROBE_TTL_SECONDS: Final = 1.0
_PROBE_TIMEOUT_SECONDS: Final = 2.0
_CHUNK_BYTES: Final = 65_536
_DELAY_SECONDS: Final = re.compile("[0-9]{1,9}")
# Visible ASCII. An id with an @ may contain an e-mail address, which is not logged.
_REQUEST_ID: Final = re.compile("[!-?A-~]{1,200}")
_SUCCESS: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
_DOWN_STATUSES: Final = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)


class Delivery(Enum):
    """What a request without a usable response may have done."""

    NEVER_SENT = auto()
    """Nothing: no connection was made, so upstream has not seen the request."""

    REFUSED = auto()
    """Nothing: the response says so."""

    UNKNOWN = auto()
    """Upstream may have done what the request asks for, or may still do it."""


class UpstreamUnavailable(SourceUnavailable):
    """There is no usable response from upstream.

    Attributes:
        delivery: what the request may have done.
        status: the status of the response; None without a response.
        is_transient: whether an immediate retry may help.
    """

    def __init__(
        self,
        reason: str,
        delivery: Delivery,
        *,
        status: int | None = None,
        retry_after_seconds: int = 1,
        is_transient: bool = False,
    ) -> None:
        super().__init__(reason, retry_after_seconds)
        self.delivery = delivery
        self.status = status
        self.is_transient = is_transient

    @classmethod
    def because_of(cls, response: "Response", reason: str, delivery: Delivery) -> Self:
        """Return the exception for a response that is not usable."""
        request_id = response.request_id
        seconds = retry_after_seconds(response.headers) or 1
        error = cls(
            reason if request_id is None else f"{reason} (its request id is {request_id})",
            delivery,
            status=response.status,
            retry_after_seconds=seconds,
            is_transient=seconds == 1,
        )
        if request_id is not None:
            error.details = {"upstream_request_id": request_id}
        return error

    @property
    def is_missing_operation(self) -> bool:
        """Whether the response is a 404 that is not about a record: upstream has no such path."""
        return self.status == HTTPStatus.NOT_FOUND


class Response(NamedTuple):
    """A response.

    `body` is the parsed JSON, or None if it is incomplete, not JSON, or not to be parsed.
    `content` is the body as it arrived, or None if it is incomplete or too large.
    """

    status: int
    headers: Mapping[str, str]
    body: object
    content: bytes | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return self.status in _SUCCESS

    @property
    def request_id(self) -> str | None:
        """The id by which HiEnergy finds the request in its logs, in the error or a header."""
        error = self.body.get("error") if isinstance(self.body, Mapping) else None
        for envelope in (error, self.body):
            request_id = envelope.get("request_id") if isinstance(envelope, Mapping) else None
            if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id):
                return request_id
        request_id = self.headers.get("X-Request-Id", "")
        return request_id if _REQUEST_ID.fullmatch(request_id) else None


class Call(NamedTuple):
    """A request to upstream.

    Attributes:
        method: the HTTP method.
        path: percent-encoded, relative to the base URL. It may have a query.
        credential: the caller's credential.
        query: the query parameters.
        body: the JSON body.
        timeout_seconds: how long the call may take with its retries; by default as a read.
        idempotency_key: the header `Idempotency-Key`, which HiEnergy may ignore.
        wants_body: whether the body of the response is read.
        is_passed_through: whether it is a read that the gateway does not know, and does not parse.
            Any caller may choose a slow or broken one, so it takes at most half of the connections,
            and its failures after it was sent do not count for the circuit breaker.
    """

    method: str
    path: str
    credential: Credential | None = None
    query: Mapping[str, str] | None = None
    body: object = None
    timeout_seconds: float | None = None
    idempotency_key: str | None = None
    wants_body: bool = True
    is_passed_through: bool = False

    def __repr__(self) -> str:
        """Show nothing of a contact."""
        return f"<Call {self.method}>"

    def headers(self) -> dict[str, str]:
        """Return new headers with the credential and the idempotency key.

        HiEnergy documents `Authorization: Bearer` for JSON Web Tokens only.
        """
        key = {} if self.idempotency_key is None else {"Idempotency-Key": self.idempotency_key}
        if self.credential is None:
            return key
        if self.credential.is_jwt:
            return {"Authorization": f"Bearer {self.credential.secret}", **key}
        return {"X-Api-Key": self.credential.secret, **key}


# The schema is a large document.
_PROBE: Final = Call("GET", "schema", wants_body=False)

RecordStatus: TypeAlias = Callable[[int], None]
"""Records the status of the response in a span."""

StartSpan: TypeAlias = Callable[[str, dict[str, str]], AbstractContextManager[RecordStatus]]
"""Starts the span of a call, given its method and headers; may add trace headers."""


_NO_SPAN: Final[AbstractContextManager[RecordStatus]] = nullcontext(lambda _status: None)


class UpstreamClient:
    """Sends calls, each within its timeout including its retries.

    Transient failures are retried with exponential backoff and jitter. A call that may change
    something is retried only if no connection was made, so it never reaches upstream twice.

    Args:
        base_url: the URL that the paths of calls are relative to.
        timeout_seconds: the timeout of a read, and of any call without its own timeout.
        create_timeout_seconds: the timeout of a creation; by default that of a read.
        max_connections: the size of the connection pool.
        start_span: starts the span of a call.

    Raises:
        SettingsError: the environment names an unusable proxy for the URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float,
        create_timeout_seconds: float | None = None,
        max_connections: int,
        start_span: StartSpan | None = None,
    ) -> None:
        self.timeout_seconds: Final = timeout_seconds
        self.create_timeout_seconds: Final = create_timeout_seconds or timeout_seconds
        self._start_span: Final = start_span
        self._proxy: Final = proxy_for(base_url)
        self._base_url: Final = base_url
        self._max_connections: Final = max_connections
        self._half_of_the_connections: Final = asyncio.Semaphore(max(1, max_connections // 2))
        self._circuit: Final = Circuit()
        self._session: aiohttp.ClientSession | None = None
        self._in_flight = 0
        self._last_date: tuple[str | None, float] = (None, 0.0)
        self._probe_task: asyncio.Task[bool] | None = None
        self._probed_at = 0.0

    async def __aenter__(self) -> Self:
        """Open the connection pool, which connects on demand."""
        tls: ssl.SSLContext | bool = True
        if self._base_url.startswith("https:"):
            # The default settings, with the CAs of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(("http/1.1",))
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=self._max_connections,
                keepalive_timeout=_KEEP_ALIVE_SECONDS,
                ssl=tls,
            ),
            # A cookie that upstream sets for one caller must not be sent for another.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "User-Agent": f"contact-gateway/{version('contact-gateway')}",
            },
            proxy=None if self._proxy is None else self._proxy.url,
            # With True, aiohttp would also send credentials from ~/.netrc.
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close all connections."""
        if self._probe_task is not None:
            self._probe_task.cancel()
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call) -> Response:
        """Send a call, and retry it if that is safe and may help.

        Raises:
            UpstreamUnavailable: there is no response, or it says that upstream is down.
        """
        seconds_left = call.timeout_seconds or self.timeout_seconds
        deadline = time.monotonic() + seconds_left
        for max_pause_seconds in _MAX_PAUSES_SECONDS:
            try:
                return await self._attempt(call, _client_timeout(seconds_left))
            except UpstreamUnavailable as error:
                may_repeat = call.method == "GET" or error.delivery is Delivery.NEVER_SENT
                pause_seconds = random.uniform(0, max_pause_seconds)  # noqa: S311 - no secret
                ends_in_time = time.monotonic() + pause_seconds < deadline
                if not (error.is_transient and may_repeat and ends_in_time):
                    raise
            await asyncio.sleep(pause_seconds)
            seconds_left = max(deadline - time.monotonic(), _MIN_TIMEOUT_SECONDS)
        return await self._attempt(call, _client_timeout(seconds_left))

    async def is_reachable(self) -> bool:
        """Return whether upstream responds without a server error, even if the circuit is open.

        The result is cached for a second, so concurrent callers share one probe.
        """
        now = time.monotonic()
        if self._probe_task is None or (
            self._probe_task.done() and now >= self._probed_at + _PROBE_TTL_SECONDS
        ):
            self._probe_task, self._probed_at = asyncio.create_task(self._probe()), now
        return await asyncio.shield(self._probe_task)

    async def _probe(self) -> bool:
        client_timeout = _client_timeout(min(self.timeout_seconds, _PROBE_TIMEOUT_SECONDS))
        try:
            response = await self._traced_request(_PROBE, client_timeout)
        except UpstreamUnavailable:
            return False
        return response.status < HTTPStatus.INTERNAL_SERVER_ERROR

    def clock_ahead(self) -> timedelta | None:
        """Return how far upstream's clock is ahead of ours, at least; None if unknown.

        Source: `Date` of the latest response (RFC 9110, section 6.6.1), in whole seconds.
        """
        date, received_at = self._last_date
        sent_at = None if date is None else seconds_of(date)
        return None if sent_at is None else timedelta(seconds=sent_at - received_at)

    async def _attempt(self, call: Call, client_timeout: aiohttp.ClientTimeout) -> Response:
        """Send a call once, unless too many are in flight or the circuit is open."""
        if self._in_flight >= self._max_connections * _MAX_CALLS_PER_CONNECTION:
            raise UpstreamUnavailable("too many calls are in flight", Delivery.NEVER_SENT)
        try:
            generation = self._circuit.admit()
        except CircuitOpenError as error:
            raise UpstreamUnavailable(
                "upstream is down: the circuit is open",
                Delivery.NEVER_SENT,
                retry_after_seconds=math.ceil(error.seconds),
            ) from None
        self._in_flight += 1
        try:
            if call.is_passed_through:
                response = await self._pass_through(call, client_timeout)
            else:
                response = await self._traced_request(call, client_timeout)
        except UpstreamUnavailable as error:
            if call.is_passed_through and error.delivery is not Delivery.NEVER_SENT:
                self._circuit.record_cancellation(generation)
            else:
                self._circuit.record_failure(generation)
            raise
        except BaseException:
            self._circuit.record_cancellation(generation)
            raise
        finally:
            self._in_flight -= 1
        self._circuit.record_success()
        return response

    async def _pass_through(self, call: Call, client_timeout: aiohttp.ClientTimeout) -> Response:
        """Send a read over at most half of the connections, within the timeout in any case."""
        try:
            async with asyncio.timeout(client_timeout.total), self._half_of_the_connections:
                return await self._traced_request(call, client_timeout)
        except TimeoutError:
            reason = "too many reads are passed through"
            raise UpstreamUnavailable(reason, Delivery.UNKNOWN) from None

    async def _traced_request(self, call: Call, client_timeout: aiohttp.ClientTimeout) -> Response:
        """Send a call in a span of its trace; raise if the response says that upstream is down."""
        headers = call.headers()
        span = self._start_span(call.method, headers) if self._start_span else _NO_SPAN
        with span as record_status:
            response = await self._request(call, headers, client_timeout)
            record_status(response.status)
        if response.status not in _DOWN_STATUSES:
            return response
        raise unexpected(response)

    async def _request(
        self, call: Call, headers: dict[str, str], client_timeout: aiohttp.ClientTimeout
    ) -> Response:
        if self._session is None:
            raise RuntimeError("the client is not open")
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
                timeout=client_timeout,
                allow_redirects=False,
                proxy_headers=None if self._proxy is None else self._proxy.headers,
            ) as response:
                content = await _content_of(call, response)
        except UnicodeError as error:
            raise UpstreamUnavailable(
                "the upstream host name is invalid", Delivery.NEVER_SENT
            ) from error
        except _NotConnectedError as error:
            raise UpstreamUnavailable(
                f"no connection to upstream: {error.reason}",
                Delivery.NEVER_SENT,
                is_transient=not isinstance(error.cause, TimeoutError),
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            # Only the type, because the message may contain what a caller sent.
            raise UpstreamUnavailable(
                f"the upstream request failed: {type(error).__name__}",
                Delivery.UNKNOWN,
                is_transient=not isinstance(error, TimeoutError),
            ) from None
        self._last_date = response.headers.get("Date"), time.time()
        body = _parse_json(content) if content and not call.is_passed_through else None
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


class _NotConnectedError(aiohttp.ClientError):
    """There is no connection, so nothing was sent to upstream."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause: Final = cause
        self.reason: Final = (
            f"the proxy refuses it with status {cause.status}"
            if isinstance(cause, aiohttp.ClientHttpProxyError)
            else type(cause).__name__
        )


class _Connector(aiohttp.TCPConnector):
    """A connection pool that distinguishes failures to connect from failures of a request.

    Otherwise both may be one exception: a proxy may end its connection before it has one to
    upstream.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's name
    ) -> Connection:
        """Return a pooled or a new connection."""
        try:
            return await super().connect(req, traces, timeout)
        except (aiohttp.ClientError, OSError) as error:
            raise _NotConnectedError(error) from None


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


# Cached, because all responses of one second have the same.
@lru_cache(maxsize=4)
def seconds_of(date: str) -> float | None:
    """Parse a date of HTTP, in seconds since the epoch; return None if it is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def unexpected(response: Response) -> UpstreamUnavailable:
    """Return the exception for a response without a business outcome.

    408 and most server errors may come from a proxy while upstream processes the request.
    """
    status = response.status
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    is_refused = is_redirect or status in {HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE}
    delivery = Delivery.REFUSED if is_refused else Delivery.UNKNOWN
    return UpstreamUnavailable.because_of(response, f"upstream responds with {status}", delivery)


def retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    """Parse `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3); at most a day."""
    value = headers.get("Retry-After", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return min(int(value), MAX_RETRY_AFTER_SECONDS)
    moment = seconds_of(value)
    if moment is None:
        return None
    return min(max(1, math.ceil(moment - time.time())), MAX_RETRY_AFTER_SECONDS)


def _parse_json(body: bytes) -> object:
    """Parse a body; return None if it is not JSON.

    The standard library reads what orjson refuses: a byte order mark, lone surrogates, and NaN.
    """
    with suppress(ValueError):
        return orjson.loads(body)
    with suppress(ValueError, RecursionError):
        return json.loads(body, parse_constant=lambda _: None)
    return None
