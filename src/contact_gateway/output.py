"""Standard output and standard error, which may be closed, full or without a reader."""

import json
import os
import sys
from contextlib import suppress
from io import StringIO
from typing import Final, NoReturn, TextIO

import rich.markup
import typer
from rich.console import Console


class OutputError(OSError):
    """Standard output cannot be written. The message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"standard output cannot be written: {reason}")


def occupy_closed_descriptors() -> None:
    """Open the null device in place of closed standard streams.

    Otherwise the next socket or database gets the descriptor, and the output of libraries.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - as in `os`


def write(text: str) -> None:
    """Write text to standard output, and flush it.

    Raises:
        OutputError: it cannot be written.
    """
    _write(sys.stdout, text)


def write_json(value: object) -> None:
    """Write a JSON value to standard output as `write` does, for programs."""
    write(f"{json.dumps(value, indent=2, ensure_ascii=False)}\n")


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    stream: TextIO | None = sys.stdout
    return stream is not None and stream.isatty()


def is_standard_error_open() -> bool:
    """Return whether this process was started with standard error."""
    stream: TextIO | None = sys.stderr
    return stream is not None


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        raise OutputError("it is closed")
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        # Redirected to the null device: Python's flush at the exit would fail again.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(reason or str(error)) from None


class StandardError(StringIO):
    """The current standard error. It ignores errors, so that no work fails for its messages."""

    def write(self, text: str, /) -> int:
        """Write text, if that is possible."""
        with suppress(OutputError):
            _write(sys.stderr, text)
        return len(text)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        stream: TextIO | None = sys.stderr
        return stream is not None and stream.isatty()


_STANDARD_ERROR: Final = StandardError()
console: Final = Console(file=_STANDARD_ERROR, soft_wrap=True, highlight=False)
"""Standard error with rich's markup, for warnings and progress."""


def note(text: str) -> None:
    """Print a line to standard error."""
    _STANDARD_ERROR.write(f"{text}\n")


def print_error(message: str) -> None:
    """Print an error to standard error."""
    console.print(f"[red]Error[/]: {rich.markup.escape(message)}")


def fail(message: str, status: int = 1) -> NoReturn:
    """Print an error, and exit with a status."""
    print_error(message)
    raise typer.Exit(status)
