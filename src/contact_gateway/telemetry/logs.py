"""Log configuration: structlog for the gateway's lines, and the same format for libraries.

No line contains an API key, an e-mail address or anything else that a caller sent, except a valid
`X-Request-Id`, and the name and version of a client.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from contact_gateway.faces.request_context import RequestContext, current_request
from contact_gateway.settings import LogFormat
from contact_gateway.telemetry.line_writer import LineWriter


def _add_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the request in hand, if there is one."""
    request = current_request.get(None)
    return event if request is None else {**event, **_ids(request)}


def _ids(request: RequestContext) -> dict[str, str]:
    ids = {"request_id": request.request_id}
    return ids if request.trace_id is None else {**ids, "trace_id": request.trace_id}


_PROCESSORS: Final[tuple[Processor, ...]] = (
    _add_ids,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


_log = structlog.get_logger("contact_gateway.requests")


class RequestLog:
    """Logs each request after its response."""

    def answered(self, context: RequestContext, seconds: float) -> None:
        """Write the line of a request."""
        fields: dict[str, object] = {
            "method": context.method,
            "operation": context.operation,
            "outcome": context.outcome,
            "status": context.status,
            "duration_ms": round(seconds * 1000, 2),
        }
        if context.client is not None:
            fields["client_name"], fields["client_version"] = context.client
        logger = structlog.get_config()["logger_factory"]()
        if not isinstance(logger, _JsonLogger):
            _log.info("request", **fields)
        elif logger.least <= logging.INFO:
            # As structlog's processors would, which take four times as long.
            fields["event"] = "request"
            fields |= _ids(context)
            fields["level"], fields["timestamp"] = "info", datetime.now(UTC)
            logger.info(orjson.dumps(fields, option=orjson.OPT_UTC_Z).decode())


def configure_logging(
    log_format: LogFormat | None, stream: TextIO | None = None, *, least: int = logging.INFO
) -> None:
    """Write all log lines, including those of libraries, in one format.

    The gateway's lines bypass the standard library's logging, which is slow for a line per request.

    Args:
        log_format: by default columns in a terminal, JSON otherwise.
        stream: by default standard error.
        least: the lowest level of the gateway's lines.
    """
    stream = stream or sys.stderr
    default = LogFormat.CONSOLE if stream.isatty() else LogFormat.JSON
    renderers = _renderers(log_format or default, stream)

    dropped: structlog.BoundLogger = structlog.wrap_logger(
        structlog.ReturnLogger(), [*_PROCESSORS, *renderers], structlog.BoundLogger
    )
    writer = LineWriter(
        stream, lambda lines: f"{dropped.warning('log lines dropped', lines=lines)}\n"
    )
    is_json = (log_format or default) is LogFormat.JSON
    logger = _JsonLogger(writer, least) if is_json else _BufferedLogger(writer)
    handler = _Handler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_PROCESSORS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Below WARNING, libraries may log what a caller sent.
    root.setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_PROCESSORS, *renderers],
        logger_factory=lambda *_: logger,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        cache_logger_on_first_use=False,
    )


def _renderers(log_format: LogFormat, stream: TextIO) -> tuple[Processor, ...]:
    # Tracebacks omit the values of local variables, which may be what a caller sent.
    if log_format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer(serializer=_json_line)
        return structlog.processors.format_exc_info, renderer
    return (
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    )


def _json_line(event: object, default: Callable[[object], object]) -> str:
    try:
        return orjson.dumps(event, default).decode()
    except TypeError:
        # orjson refuses a lone surrogate, which a traceback may contain.
        return json.dumps(event, default=default)


class _Handler(logging.Handler):
    """Writes the log lines of libraries."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer: Final = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as the standard library's handlers do
            self.handleError(record)

    def flush(self) -> None:
        self._writer.flush()


class _BufferedLogger:
    """Joins log lines: those of one event loop step are one write."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer: Final = writer
        self._buffer: list[str] = []
        self._flushing_loop: asyncio.AbstractEventLoop | None = None

    def info(self, line: str) -> None:
        """Buffer a line for the end of this event loop step. Without a loop, write it now."""
        self._buffer.append(line)
        # A loop that was closed before its flush does not flush any more.
        if self._flushing_loop is not None and not self._flushing_loop.is_closed():
            return
        try:
            self._flushing_loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            self._flushing_loop.call_soon(self._flush)

    def error(self, line: str) -> None:
        """Write a line now, after the buffered ones."""
        self._buffer.append(line)
        self._flush()

    warning = error

    def _flush(self) -> None:
        lines, self._buffer = self._buffer, []
        self._flushing_loop = None
        if lines:
            self._writer.write("\n".join(lines) + "\n")


class _JsonLogger(_BufferedLogger):
    """Takes JSON lines of this level and higher ones."""

    def __init__(self, writer: LineWriter, least: int) -> None:
        super().__init__(writer)
        self.least: Final = least
