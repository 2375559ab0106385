"""Logs: one line for each event, in one format. A failing stream fails no request."""

import asyncio
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import structlog

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.faces.client_name import Client
from contact_gateway.faces.request_context import RequestContext, current_request
from contact_gateway.settings import LogFormat
from contact_gateway.telemetry.logs import RequestLog, configure_logging
from support.gateway import Gateway
from support.process import GatewayProcess, gateway_process
from support.raw_http import HEALTHZ, connect

FORMATS = pytest.mark.parametrize("log_format", LogFormat)


class _Full(io.StringIO):
    """A stream on a disk that is full."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


@FORMATS
def test_lines_of_the_gateway_and_of_libraries_have_the_same_format(log_format: LogFormat) -> None:
    lines = io.StringIO()
    configure_logging(log_format, lines)
    structlog.get_logger().warning("ours", cause="c")
    logging.getLogger("a.library").warning("theirs")

    ours, theirs = lines.getvalue().splitlines()
    if log_format is LogFormat.JSON:
        assert json.loads(ours).keys() == {"event", "level", "timestamp", "cause"}
        assert json.loads(theirs).keys() == {"event", "level", "timestamp"}
    else:
        assert "[warning  ] ours" in ours
        assert "[warning  ] theirs" in theirs


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_default_is_columns_in_a_terminal_and_json_otherwise(*, is_terminal: bool) -> None:
    lines = _Terminal() if is_terminal else io.StringIO()
    configure_logging(None, lines)
    structlog.get_logger().info("request")

    assert lines.getvalue().startswith("{") is not is_terminal


@pytest.mark.parametrize("trace_id", [None, "0af7651916cd43dd8448eb211c80319c"])
@pytest.mark.parametrize("client", [None, Client("web", "1.0")], ids=["anonymous", "named"])
def test_the_line_of_a_request_is_that_of_any_other_event(
    client: Client | None, trace_id: str | None
) -> None:
    """`RequestLog` writes the JSON itself."""
    lines = io.StringIO()
    configure_logging(LogFormat.JSON, lines)
    context = _context(client)
    fields = {"method": "GET", "operation": "healthz", "outcome": "OK", "status": 200}
    context.trace_id = trace_id
    client_fields = {} if client is None else {"client_name": "web", "client_version": "1.0"}
    RequestLog().answered(context, 0.012345)
    token = current_request.set(context)
    structlog.get_logger().info("request", **fields, duration_ms=12.35, **client_fields)
    current_request.reset(token)

    written, expected = lines.getvalue().splitlines()
    times = [json.loads(line)["timestamp"] for line in (written, expected)]
    assert written.replace(times[0], "") == expected.replace(times[1], "")
    for time in times:
        # Without a fraction once in a million lines.
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]{6})?Z", time)


@FORMATS
def test_no_line_of_a_request_is_below_the_lowest_level(log_format: LogFormat) -> None:
    lines = io.StringIO()
    configure_logging(log_format, lines, least=logging.WARNING)
    RequestLog().answered(_context(), 1)

    assert lines.getvalue() == ""


def test_the_line_of_a_request_on_a_terminal_has_columns() -> None:
    lines = _Terminal()
    configure_logging(None, lines)
    RequestLog().answered(_context(), 1)

    assert "healthz" in lines.getvalue()
    assert not lines.getvalue().startswith("{")


def _context(client: Client | None = None) -> RequestContext:
    """Return the context of a request that was answered."""
    context = RequestContext("an-id", Caller(None, _refuse), method="GET", client=client)
    context.operation, context.outcome, context.status = "healthz", "OK", 200
    return context


async def _refuse(_: Credential) -> KeyRefusal:
    return KeyRefusal.UNKNOWN


@FORMATS
def test_info_of_libraries_is_not_logged(log_format: LogFormat) -> None:
    lines = io.StringIO()
    configure_logging(log_format, lines)
    logging.getLogger("a.library").info("a caller's input")

    assert lines.getvalue() == ""


@FORMATS
def test_a_traceback_is_logged_without_the_values_of_variables(
    log_format: LogFormat,
) -> None:
    lines = io.StringIO()
    configure_logging(log_format, lines)
    secret = "cgw_" + "s" * 50
    try:
        raise ValueError("\ud800")
    except ValueError as error:
        structlog.get_logger().error("fault", exc_info=error)

    assert "ValueError" in lines.getvalue()
    assert "test_logs" in lines.getvalue()
    assert secret not in lines.getvalue()


@FORMATS
@pytest.mark.anyio
async def test_a_log_that_cannot_be_written_fails_no_request(
    gateway: Gateway, log_format: LogFormat
) -> None:
    configure_logging(log_format, _Full())

    assert (await gateway.client.get("/healthz")).status_code == 200


def test_lines_that_cannot_be_written_are_counted_in_the_next_line() -> None:
    lines = _Sometimes()
    configure_logging(LogFormat.JSON, lines)
    structlog.get_logger().info("before")
    lines.is_full = True
    structlog.get_logger().info("lost")
    logging.getLogger("a.library").warning("lost")
    lines.is_full = False
    structlog.get_logger().info("after")
    structlog.get_logger().info("last")

    assert _events(lines) == ["before", "log lines dropped", "after", "last"]
    assert json.loads(lines.getvalue().splitlines()[1])["lines"] == 2


class _Sometimes(io.StringIO):
    """A stream on a disk that is full at times."""

    is_full = False

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


REQUESTS = 10_000


@contextmanager
def _gateway_with_log_in_a_pipe(folder: Path) -> Iterator[tuple[GatewayProcess, int]]:
    """Run a gateway whose standard error is a pipe; yield the pipe's other end."""
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    command = ("sh", "-ec", 'exec "$0" "$@" 2>pipe', sys.executable, "-m", "contact_gateway")
    environment = {"CONTACT_GATEWAY_METRICS": "true"}
    try:
        with gateway_process(
            folder, command=(*command, "serve"), environment=environment
        ) as process:
            yield process, reader
    finally:
        os.close(reader)


def _send_many(process: GatewayProcess) -> int:
    """Send more requests than lines are queued for a reader; return how many are answered."""
    head = HEALTHZ.replace(b"\r\n\r\n", b"\r\nX-Request-Id: " + b"i" * 128 + b"\r\n\r\n")
    answered = b""
    with connect(process) as connection:
        writer = Thread(target=connection.sendall, args=(head * REQUESTS,))
        writer.start()
        while answered.count(b"HTTP/1.1 200") < REQUESTS and (piece := connection.recv(2**20)):
            answered += piece
        writer.join()
    return answered.count(b"HTTP/1.1 200")


def test_a_log_that_nobody_reads_stops_neither_requests_nor_the_stop(tmp_path: Path) -> None:
    with _gateway_with_log_in_a_pipe(tmp_path) as (process, _):
        assert _send_many(process) == REQUESTS
        assert process.stop() == 0


def test_dropped_log_lines_are_counted(tmp_path: Path) -> None:
    with _gateway_with_log_in_a_pipe(tmp_path) as (process, reader):
        _send_many(process)
        with process.client() as client:
            metrics = client.get("/metrics").text
        (count,) = re.findall(
            r"^contact_gateway_log_lines_dropped_total (\S+)", metrics, re.MULTILINE
        )
        os.set_blocking(reader, True)
        with os.fdopen(os.dup(reader), encoding="utf-8") as lines:
            events = (json.loads(line) for line in lines)
            note = next(event for event in events if event["event"] == "log lines dropped")
        process.stop()

    assert float(count) > 0
    assert note["level"] == "warning"
    # The line of the request for the metrics may be dropped, too.
    assert note["lines"] in {float(count), float(count) + 1}


class _Counting(io.StringIO):
    """A stream that counts its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def _events(lines: io.StringIO) -> list[object]:
    return [json.loads(line)["event"] for line in lines.getvalue().splitlines()]


@pytest.mark.anyio
async def test_lines_of_one_event_loop_step_are_one_write() -> None:
    lines = _Counting()
    configure_logging(LogFormat.JSON, lines)
    for number in range(3):
        structlog.get_logger().info(f"request {number}")
    await asyncio.sleep(0)

    assert _events(lines) == ["request 0", "request 1", "request 2"]
    assert lines.writes == 1


@pytest.mark.anyio
async def test_an_error_is_written_immediately_and_in_order() -> None:
    lines = _Counting()
    configure_logging(LogFormat.JSON, lines)
    structlog.get_logger().info("request")
    structlog.get_logger().error("fault")

    assert _events(lines) == ["request", "fault"]


def test_lines_of_a_closed_loop_are_written_before_those_of_the_next() -> None:
    lines = _Counting()
    configure_logging(LogFormat.JSON, lines)
    for _ in range(2):
        loop = asyncio.new_event_loop()
        # The loop stops before it flushes.
        loop.call_soon(lambda: structlog.get_logger().info("request"))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
    structlog.get_logger().info("the last")

    assert _events(lines) == ["request", "request", "the last"]
