"""The connections to upstream: one pool for the process's life, within bounds of time and number.

aiohttp, by measuring; the figures stand in `benchmarks/`.
"""

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self, assert_never

import aiohttp
import orjson
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)
from yarl import URL

from contact_gateway.access.principals import Credential, CredentialScheme
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.circuit import Circuit, CircuitOpenError

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_MAX_WAITING_PER_CONNECTION: Final = 20
_ATTEMPTS: Final = 3
_LONGEST_CONNECT_SECONDS: Final = 5.0
# Shorter than servers' usual five seconds: a creation must not meet a connection that is closing.
_KEPT_ALIVE_SECONDS: Final = 4.0
_SECONDS: Final = re.compile("[0-9]{1,9}")
_READ_AT_ONCE: Final = 65_536
_PROBED_EVERY: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 2.0
_LEAST_SECONDS: Final = 0.001
_LAST_OF_UPSTREAM: Final = HTTPStatus.NOT_IMPLEMENTED
LONGEST_RETRY_SECONDS: Final = 86_400
_DOWN: Final = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
# What aiohttp raises before there is a connection, and so before anything is sent.
_NO_CONNECTION: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_Again = Callable[[BaseException], bool]


class Delivery(Enum):
    """What is known of a request that got no answer one can use."""

    NEVER_SENT = auto()
    """No connection was made: upstream knows nothing of it."""

    OVER = auto()
    """Upstream, or what stands before it, is done with the request, whatever it did."""

    UNKNOWN = auto()
    """Upstream may still be at it."""


class UpstreamUnavailable(SourceUnavailable):
    """Upstream gave no answer that can be used.

    `is_passing` tells whether trying again at once may help.
    """

    def __init__(
        self,
        reason: str,
        delivery: Delivery,
        *,
        retry_after_seconds: int = 1,
        is_passing: bool = False,
    ) -> None:
        super().__init__(reason, retry_after_seconds)
        self.delivery = delivery
        self.is_passing = is_passing


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer of upstream; `body` is its JSON, None where it is none."""

    status: int
    headers: Mapping[str, str]
    body: object


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A request to upstream. `path` is percent-encoded, below the base URL."""

    method: str
    path: str
    credential: Credential | None = None
    query: Mapping[str, str] | None = None
    body: object = None


CallSpan = Callable[[int], None]
"""Takes the status of a call's answer, for its span in a trace."""

Span = Callable[[str, dict[str, str]], AbstractContextManager[CallSpan]]
"""Spans a call with a method; it may add to the headers."""


class UpstreamClient:
    """Sends calls, each within `timeout_seconds` altogether.

    Reads are tried again, with jitter, where upstream was not reached or is down; a creation only
    where no connection was made, so nothing that may have arrived is sent twice.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float,
        max_connections: int,
        span: Span | None = None,
    ) -> None:
        self._span: Final = span
        self.timeout_seconds: Final = timeout_seconds
        self._base_url: Final = base_url
        self._max_connections: Final = max_connections
        self._connect_seconds: Final = min(timeout_seconds / 2, _LONGEST_CONNECT_SECONDS)
        self._within: Final = self._bounds(timeout_seconds)
        self._circuit: Final = Circuit()
        self._session: aiohttp.ClientSession | None = None
        self._under_way = 0
        self._dated: tuple[str | None, float] = (None, 0.0)
        self._probe: asyncio.Task[bool] | None = None
        self._probed_at = 0.0

    async def __aenter__(self) -> Self:
        """Open the pool; connections are made when they are needed."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=_KEPT_ALIVE_SECONDS
            ),
            # What upstream sets for one caller must not travel with another.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept": "application/json",
                "User-Agent": f"contact-gateway/{version('contact-gateway')}",
            },
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._probe is not None:
            self._probe.cancel()
        if self._session is not None:
            await self._session.close()

    async def read(self, call: Call) -> Response:
        """Send a call that changes nothing.

        Raises:
            UpstreamUnavailable: there is no answer, or upstream says that it is down.
        """
        return await self._tried(call, _may_be_read_again)

    async def create(self, call: Call) -> Response:
        """Send a call that may change something; what may have arrived is not sent again.

        Raises:
            UpstreamUnavailable: there is no answer, or upstream says that it is down.
        """
        return await self._tried(call, _was_never_sent)

    async def is_reached(self) -> bool:
        """Tell whether upstream answers at all, whatever the circuit has found before.

        All who ask within a second share one call, which is given up after two.
        """
        now = time.monotonic()
        if self._probe is None or (self._probe.done() and now >= self._probed_at + _PROBED_EVERY):
            self._probe, self._probed_at = asyncio.create_task(self._probed()), now
        return await asyncio.shield(self._probe)

    async def _probed(self) -> bool:
        within = self._bounds(min(self.timeout_seconds, _LONGEST_PROBE_SECONDS))
        try:
            answer = await self._exchange(Call("GET", "schema"), within)
        except UpstreamUnavailable:
            return False
        return answer.status < HTTPStatus.INTERNAL_SERVER_ERROR

    def clock_ahead(self) -> timedelta | None:
        """Return by how much upstream's clock is ahead of ours at least; None where it is not told.

        Source: the latest answer's `Date` (RFC 9110, section 6.6.1), in whole seconds.
        """
        text, received_at = self._dated
        if text is None:
            return None
        try:
            told = parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
        return timedelta(seconds=told - received_at)

    async def _tried(self, call: Call, again: _Again) -> Response:
        began = time.monotonic()
        try:
            return await self._guarded(call, self._within)
        except UpstreamUnavailable as error:
            if not again(error):
                raise
            return await self._retried(call, began + self.timeout_seconds, again, error)

    async def _retried(
        self, call: Call, deadline: float, again: _Again, first: UpstreamUnavailable
    ) -> Response:
        """Try again what has failed once: only such a call pays for how that is done."""
        failed = [first]

        async def attempt() -> Response:
            if failed:
                raise failed.pop()
            return await self._guarded(call, self._bounds(deadline - time.monotonic()))

        attempts = AsyncRetrying(
            stop=stop_any(
                stop_after_attempt(_ATTEMPTS), stop_before_delay(deadline - time.monotonic())
            ),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            retry=retry_if_exception(again),
            reraise=True,
        )
        return await attempts(attempt)

    async def _guarded(self, call: Call, within: aiohttp.ClientTimeout) -> Response:
        """Make a call where there is room and hope, and tell the circuit how it ended."""
        if self._under_way >= self._max_connections * _MAX_WAITING_PER_CONNECTION:
            raise UpstreamUnavailable("too many wait for upstream", Delivery.NEVER_SENT)
        try:
            era = self._circuit.admit()
        except CircuitOpenError as error:
            raise UpstreamUnavailable(
                "upstream is down",
                Delivery.NEVER_SENT,
                retry_after_seconds=math.ceil(error.seconds),
            ) from None
        self._under_way += 1
        try:
            answer = await self._exchange(call, within)
            if answer.status in _DOWN:
                raise _down(answer)
        except UpstreamUnavailable:
            self._circuit.failed(era)
            raise
        except BaseException:
            self._circuit.abandoned(era)
            raise
        finally:
            self._under_way -= 1
        self._circuit.succeeded()
        return answer

    async def _exchange(self, call: Call, within: aiohttp.ClientTimeout) -> Response:
        headers = _headers_of(call)
        if self._span is None:
            return await self._sent(call, headers, within)
        with self._span(call.method, headers) as answered:
            answer = await self._sent(call, headers, within)
            answered(answer.status)
            return answer

    async def _sent(
        self, call: Call, headers: dict[str, str], within: aiohttp.ClientTimeout
    ) -> Response:
        if self._session is None:
            raise RuntimeError("the client is not open")
        url = URL(f"{self._base_url}/{call.path}", encoded=True)
        delivery = Delivery.UNKNOWN
        try:
            async with self._session.request(
                call.method,
                url.with_query(call.query) if call.query else url,
                data=_payload_of(call),
                headers=headers,
                timeout=within,
                allow_redirects=False,
            ) as response:
                delivery = Delivery.OVER
                body = await _body_of(response)
        except UnicodeError as error:
            raise UpstreamUnavailable("upstream's address is none", Delivery.NEVER_SENT) from error
        except (aiohttp.ClientError, OSError) as error:
            # The kind alone is told: texts may hold what was sent.
            reason = f"upstream is not reached: {type(error).__name__}"
            raise UpstreamUnavailable(
                reason,
                Delivery.NEVER_SENT if isinstance(error, _NO_CONNECTION) else delivery,
                is_passing=not isinstance(error, TimeoutError),
            ) from None
        self._dated = response.headers.get("Date"), time.time()
        return Response(response.status, response.headers, _json_of(body))

    def _bounds(self, seconds: float) -> aiohttp.ClientTimeout:
        """Bound an exchange, and within that the wait for a connection.

        The whole bounds writing and reading, too; a connection is waited for in the pool, or made.
        """
        return aiohttp.ClientTimeout(
            total=max(seconds, _LEAST_SECONDS),
            connect=self._connect_seconds,
            sock_connect=self._connect_seconds,
            ceil_threshold=math.inf,
        )


def _down(answer: Response) -> UpstreamUnavailable:
    seconds = retry_after_seconds(answer.headers) or 1
    return UpstreamUnavailable(
        f"upstream answers {answer.status}",
        delivery_of(answer.status),
        retry_after_seconds=seconds,
        is_passing=seconds == 1,
    )


def delivery_of(status: int) -> Delivery:
    """Return what is known of a request by a status that says nothing of its outcome.

    From 502 on, and with 408, it may be something before upstream that answers, while upstream is
    still at it.
    """
    is_upstreams_own = status <= _LAST_OF_UPSTREAM and status != HTTPStatus.REQUEST_TIMEOUT
    return Delivery.OVER if is_upstreams_own else Delivery.UNKNOWN


def retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    """Read the header `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return min(int(text), LONGEST_RETRY_SECONDS)
    try:
        seconds = math.ceil(parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(1, seconds), LONGEST_RETRY_SECONDS)


def _may_be_read_again(error: BaseException) -> bool:
    return isinstance(error, UpstreamUnavailable) and error.is_passing


def _was_never_sent(error: BaseException) -> bool:
    return (
        isinstance(error, UpstreamUnavailable)
        and error.is_passing
        and error.delivery is Delivery.NEVER_SENT
    )


def _payload_of(call: Call) -> aiohttp.Payload | None:
    if call.body is None:
        return None
    return aiohttp.BytesPayload(orjson.dumps(call.body), content_type="application/json")


def _headers_of(call: Call) -> dict[str, str]:
    headers: dict[str, str] = {}
    if call.credential is None:
        return headers
    match call.credential.scheme:
        case CredentialScheme.API_KEY:
            headers["X-Api-Key"] = call.credential.secret
        case CredentialScheme.BEARER:
            headers["Authorization"] = f"Bearer {call.credential.secret}"
        case _:
            assert_never(call.credential.scheme)
    return headers


async def _body_of(response: aiohttp.ClientResponse) -> bytes:
    """Read a body; what is too large is none, and its connection is not used again."""
    length = response.content_length
    if (
        length is not None
        and length <= MAX_ANSWER_BYTES
        and "Content-Encoding" not in response.headers
    ):
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_chunked(_READ_AT_ONCE):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return bytes(body)


def _json_of(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        return _lenient_json_of(body)


def _lenient_json_of(body: bytes) -> object:
    """Read what is JSON to others: with a byte order mark, a lone surrogate, or NaN."""
    try:
        return json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
