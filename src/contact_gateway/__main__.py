"""`python -m contact_gateway` runs `contact-gateway`."""

import os
import signal
import sys
import time
from _thread import start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_INTERRUPTED: Final = 128 + signal.SIGINT
_CLOSING_SECONDS: Final = 5
"""How long an interrupted command may take to remove its files and to close the database."""


def run() -> None:
    """Run the command line.

    The kernel ignores signals to the first process of a container unless they have handlers.
    Imports alone take a second, so the handlers are set before them.
    """
    for number in (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if _is_serving() else ())):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)

    if sys.argv[1:2] == ["healthcheck"]:
        from contact_gateway import healthcheck  # noqa: PLC0415 - after the handlers

        healthcheck.run(sys.argv[2:])

    from contact_gateway import cli  # noqa: PLC0415 - after the handlers

    if _is_serving() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        cli.run()
    else:
        with _interruptible():
            cli.run()


def _is_serving() -> bool:
    return sys.argv[1:2] == ["serve"]


def _end(number: int, _frame: object) -> None:
    os._exit(0 if _is_serving() else 128 + number)


def _end_later() -> None:
    """End the process: closing may wait for a database or a name server that does not answer."""
    time.sleep(_CLOSING_SECONDS)
    os._exit(_INTERRUPTED)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Interrupt a command at Ctrl-C, whatever it does, and exit with status 130.

    With Python's own handler, asyncio waits for a read or a write that blocks its event loop.
    """
    import logging  # noqa: PLC0415 - a health check does without

    is_interrupted = False

    def interrupt(number: int, _frame: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        signal.signal(number, _end)
        # asyncio would log the tasks that this ends, with a traceback.
        logging.disable()
        # `threading` takes a lock, which the interrupted code may hold.
        start_new_thread(_end_later, ())
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)
        if is_interrupted:
            sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    run()
