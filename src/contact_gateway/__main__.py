"""`python -m contact_gateway` runs `contact-gateway`."""

import os
import signal
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOSING_SECONDS: Final = 5
"""How long an interrupted command may take to remove its files and to close the database."""


def run() -> None:
    """Run the command line.

    The kernel ignores signals to the first process of a container unless they have handlers.
    Imports alone take a second, so the handlers are set before them.
    """
    handled = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    _handle(handled, _end)

    if sys.argv[1:2] == ["healthcheck"]:
        from contact_gateway import healthcheck  # noqa: PLC0415 - after the handlers

        healthcheck.run(sys.argv[2:])

    from contact_gateway import cli  # noqa: PLC0415 - after the handlers

    if _is_serving():
        cli.run()
    else:
        with _interruptible(handled):
            cli.run()


def _is_serving() -> bool:
    return sys.argv[1:2] == ["serve"]


def _handle(signals: Sequence[int], handler: Callable[[int, object], None]) -> None:
    for number in signals:
        signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    os._exit(0 if _is_serving() else 128 + number)


def _end_later(number: int) -> None:
    """End the process: closing may wait for a database or a name server that does not answer."""
    time.sleep(_CLOSING_SECONDS)
    _end(number, None)


@contextmanager
def _interruptible(signals: Sequence[int]) -> Iterator[None]:
    """Interrupt a command at a signal, whatever it does, and exit with the signal's status.

    With Python's own handler, asyncio waits for a read or a write that blocks its event loop.
    """
    import logging  # noqa: PLC0415 - a health check does without

    status = 0

    def interrupt(number: int, _frame: object) -> None:
        nonlocal status
        if status == 0:
            status = 128 + number
            # asyncio would log the tasks that this ends, with a traceback.
            logging.disable()
            # `threading` takes a lock, which the interrupted code may hold.
            start_new_thread(_end_later, (number,))
            raise KeyboardInterrupt
        # A terminal that is closed, and its shell, both send SIGHUP.
        if number == signal.SIGINT:
            _end(number, None)

    _handle(signals, interrupt)
    try:
        yield
    finally:
        _handle(signals, _end)
        if status != 0:
            sys.exit(status)


if __name__ == "__main__":
    run()
