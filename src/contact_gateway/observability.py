"""What the operator sees: log lines without keys, addresses or anything else a caller sent."""

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import Processor

from contact_gateway.settings import LogFormat

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all log lines, also those of libraries, to standard error or a stream, in one format."""
    stream = stream or sys.stderr
    as_json = log_format is LogFormat.JSON
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    # Tracebacks without the values of local variables: those may be what a caller sent.
    tracebacks: list[Processor] = [structlog.processors.format_exc_info] if as_json else []
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tracebacks,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Of libraries only what is amiss: what they say in passing may hold what a caller sent.
    root.setLevel(logging.WARNING)
    logging.getLogger("contact_gateway").setLevel(logging.INFO)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
