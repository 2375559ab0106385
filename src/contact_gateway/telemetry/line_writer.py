"""Writes log lines without ever blocking or failing a request."""

import atexit
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

MAX_QUEUED_CHARACTERS: Final = 1024 * 1024
"""Lines are dropped while more than this is queued for a reader that does not read."""

FLUSH_SECONDS: Final = 1.0
"""At its end, the process waits at most this long for the reader."""

# Waking the thread for each write takes 15 % of the time of a cheap request.
_BATCH_SECONDS: Final = 0.01

_observers: Final[list[Callable[[int], None]]] = []


def on_dropped(observer: Callable[[int], None]) -> None:
    """Call a function with the number of lines whenever lines are dropped."""
    _observers.append(observer)


class LineWriter:
    """Writes lines to a stream, and drops them where the stream does not take them.

    A pipe, a socket and a terminal block the writer while their reader does not read, so a thread
    writes to them. The first write after dropped lines is the line that `dropped_line` returns for
    their number.
    """

    def __init__(self, stream: TextIO, dropped_line: Callable[[int], str]) -> None:
        self._stream: Final = stream
        self._dropped_line: Final = dropped_line
        self._may_block: Final = _may_block(stream)
        self._queue: Final[deque[str]] = deque()
        self._queued = 0
        self._dropped = 0
        # Reentrant: a signal handler may flush while the main thread writes.
        self._changed: Final = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def write(self, lines: str) -> None:
        """Write lines, or queue them for the thread, or drop them."""
        if not self._may_block:
            self._write_now(lines)
            return
        with self._changed:
            if self._queued + len(lines) > MAX_QUEUED_CHARACTERS:
                self._drop(lines)
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_queued, daemon=True, name="log")
                self._thread.start()
                atexit.register(self.flush)
            self._queue.append(lines)
            self._queued += len(lines)
            if len(self._queue) == 1:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, at most `FLUSH_SECONDS`."""
        if self._thread is not None:
            with self._changed:
                self._changed.wait_for(lambda: not self._queued, FLUSH_SECONDS)

    def _write_queued(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
            time.sleep(_BATCH_SECONDS)
            with self._changed:
                lines = "".join(self._queue)
                self._queue.clear()
            self._write_now(lines)
            with self._changed:
                self._queued -= len(lines)
                self._changed.notify_all()

    def _write_now(self, lines: str) -> None:
        dropped = self._dropped
        try:
            text = self._dropped_line(dropped) + lines if dropped else lines
            if self._may_block:
                # Not through the stream: at its end, Python would wait for the stream's lock.
                data = memoryview(text.encode(errors="backslashreplace"))
                while data:
                    data = data[os.write(self._stream.fileno(), data) :]
            else:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._drop(lines)
        else:
            with self._changed:
                self._dropped -= dropped

    def _drop(self, lines: str) -> None:
        count = lines.count("\n")
        with self._changed:
            self._dropped += count
        for observer in _observers:
            observer(count)


def _may_block(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()
