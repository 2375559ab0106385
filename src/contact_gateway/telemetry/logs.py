"""What the operator sees: log lines without keys, addresses or anything else a caller sent."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

import orjson
import structlog
from structlog.typing import Processor

from contact_gateway.settings import LogFormat

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(log_format: LogFormat | None, stream: TextIO | None = None) -> None:
    """Send all log lines, also those of libraries, to standard error or a stream, in one format.

    Without one, columns are for people at a terminal, and JSON for what else reads.
    The gateway's own lines do not pass the standard library's logging: one is written for each
    request.
    """
    stream = stream or sys.stderr
    by_itself = LogFormat.CONSOLE if stream.isatty() else LogFormat.JSON
    lines = _Lines(stream)
    written = _written_as(log_format or by_itself, stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Of libraries only what is amiss: what they say in passing may hold what a caller sent.
    root.setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, *written],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes lines to a stream. One that is full or gone disturbs no request.

    Lines of requests that end together are written together, before the event loop waits again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._waiting: list[str] = []
        self._written_by: asyncio.AbstractEventLoop | None = None

    def info(self, line: str) -> None:
        """Write a line, soon where there is an event loop."""
        self._waiting.append(line)
        # One that has ended without writing is not waited for.
        if self._written_by is not None and not self._written_by.is_closed():
            return
        try:
            self._written_by = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            self._written_by.call_soon(self._write)

    def error(self, line: str) -> None:
        """Write a line at once."""
        self._waiting.append(line)
        self._write()

    warning = error

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        lines = "\n".join(waiting)
        self._written_by = None
        if lines:
            with suppress(OSError, ValueError):
                self._stream.write(f"{lines}\n")
                self._stream.flush()


def _written_as(log_format: LogFormat, stream: TextIO) -> tuple[Processor, ...]:
    # Tracebacks without the values of local variables: those may be what a caller sent.
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
        # A traceback may hold a lone surrogate.
        return json.dumps(event, default=default)
