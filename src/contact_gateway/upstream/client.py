"""The client of upstream: which calls are sent, how often, and how long they may take."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from contact_gateway.upstream.calls import (
    Call,
    Delivery,
    Response,
    UpstreamUnavailable,
    seconds_of,
    unexpected,
)
from contact_gateway.upstream.circuit import Circuit, CircuitOpenError
from contact_gateway.upstream.proxy import proxy_for

if TYPE_CHECKING:
    from contact_gateway.upstream.connections import Connections

_MAX_CALLS_PER_CONNECTION: Final = 20
# Before the second and the third attempt of a call.
_MAX_PAUSES_SECONDS: Final = (0.1, 0.2)
_MIN_TIMEOUT_SECONDS: Final = 0.001
# A century: not a clock. Times beyond the years 1 and 9999 raise `OverflowError`.
_MAX_SECONDS_AHEAD: Final = 100 * 365 * 86_400
_PROBE_TTL_SECONDS: Final = 1.0
_PROBE_TIMEOUT_SECONDS: Final = 2.0
# Of final responses (RFC 9110, section 15), without those that say that upstream is down.
_USABLE_STATUSES: Final = frozenset(range(200, 600)) - {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


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
        self._last_failure = ""
        self._connections: Connections | None = None
        self._in_flight = 0
        self._last_date: tuple[str | None, float] = (None, 0.0)
        self._probe_task: asyncio.Task[bool] | None = None
        self._probed_at = 0.0

    async def __aenter__(self) -> Self:
        """Open the pool of connections, which connects on demand."""
        # aiohttp takes a tenth of the start of a gateway with its own database.
        from contact_gateway.upstream.connections import Connections  # noqa: PLC0415

        self._connections = Connections(self._base_url, self._proxy, self._max_connections)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close all connections."""
        if self._probe_task is not None:
            self._probe_task.cancel()
        if self._connections is not None:
            await self._connections.close()

    async def send(self, call: Call) -> Response:
        """Send a call, and retry it if that is safe and may help.

        Raises:
            UpstreamUnavailable: there is no usable response.
        """
        seconds_left = call.timeout_seconds or self.timeout_seconds
        deadline = time.monotonic() + seconds_left
        for max_pause_seconds in _MAX_PAUSES_SECONDS:
            try:
                return await self._attempt(call, seconds_left)
            except UpstreamUnavailable as error:
                may_repeat = call.method == "GET" or error.delivery is Delivery.NEVER_SENT
                pause_seconds = random.uniform(0, max_pause_seconds)  # noqa: S311 - no secret
                ends_in_time = time.monotonic() + pause_seconds < deadline
                if not (error.is_transient and may_repeat and ends_in_time):
                    raise
            await asyncio.sleep(pause_seconds)
            seconds_left = max(deadline - time.monotonic(), _MIN_TIMEOUT_SECONDS)
        return await self._attempt(call, seconds_left)

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
        seconds = min(self.timeout_seconds, _PROBE_TIMEOUT_SECONDS)
        try:
            response = await self._traced_request(_PROBE, seconds)
        except UpstreamUnavailable:
            return False
        return response.status < HTTPStatus.INTERNAL_SERVER_ERROR

    def clock_ahead(self) -> timedelta | None:
        """Return how far upstream's clock is ahead of ours, at least; None if unknown.

        Source: `Date` of the latest response (RFC 9110, section 6.6.1), in whole seconds.
        """
        date, received_at = self._last_date
        sent_at = None if date is None else seconds_of(date)
        if sent_at is None or abs(sent_at - received_at) > _MAX_SECONDS_AHEAD:
            return None
        return timedelta(seconds=sent_at - received_at)

    async def _attempt(self, call: Call, seconds: float) -> Response:
        """Send a call once, unless too many are in flight or the circuit is open."""
        if self._in_flight >= self._max_connections * _MAX_CALLS_PER_CONNECTION:
            raise UpstreamUnavailable("too many calls are in flight", Delivery.NEVER_SENT)
        try:
            generation = self._circuit.admit()
        except CircuitOpenError as error:
            raise UpstreamUnavailable(
                f"upstream is down, and the circuit is open: {self._last_failure}",
                Delivery.NEVER_SENT,
                retry_after_seconds=math.ceil(error.seconds),
            ) from None
        self._in_flight += 1
        try:
            send = self._pass_through if call.is_passed_through else self._traced_request
            response = await send(call, seconds)
        except UpstreamUnavailable as error:
            if call.is_passed_through and error.delivery is not Delivery.NEVER_SENT:
                self._circuit.record_cancellation(generation)
            else:
                self._circuit.record_failure(generation)
                self._last_failure = error.reason
            raise
        except BaseException:
            self._circuit.record_cancellation(generation)
            raise
        finally:
            self._in_flight -= 1
        self._circuit.record_success()
        return response

    async def _pass_through(self, call: Call, seconds: float) -> Response:
        """Send a read over at most half of the connections, within the timeout in any case."""
        try:
            async with asyncio.timeout(seconds), self._half_of_the_connections:
                return await self._traced_request(call, seconds)
        except TimeoutError:
            reason = "too many reads are passed through"
            raise UpstreamUnavailable(reason, Delivery.UNKNOWN) from None

    async def _traced_request(self, call: Call, seconds: float) -> Response:
        """Send a call in a span of its trace; raise if the response is not usable."""
        if self._connections is None:
            raise RuntimeError("the client is not open")
        headers = call.headers()
        span = self._start_span(call.method, headers) if self._start_span else _NO_SPAN
        with span as record_status:
            response = await self._connections.exchange(call, headers, seconds)
            # The `Date` of a cached response is that of the original one.
            if "Age" not in response.headers:
                self._last_date = response.headers.get("Date"), time.time()
            record_status(response.status)
        if response.status in _USABLE_STATUSES:
            return response
        raise unexpected(response)
