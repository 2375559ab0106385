"""`python -m contact_gateway` runs `contact-gateway`."""

import os
import signal
import sys
from typing import Final

_TERMINATED: Final = 128 + signal.SIGTERM


def run() -> None:
    """Run the command line.

    The kernel ignores signals to the first process of a container unless they have handlers.
    Imports alone take a second, so the handlers are set before them.
    """
    is_serving = sys.argv[1:2] == ["serve"]
    status = 0 if is_serving else _TERMINATED
    for number in (signal.SIGTERM, *((signal.SIGINT, signal.SIGHUP) if is_serving else ())):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(status))

    if sys.argv[1:2] == ["healthcheck"]:
        from contact_gateway import healthcheck  # noqa: PLC0415 - after the handlers

        healthcheck.run(sys.argv[2:])

    from contact_gateway import cli  # noqa: PLC0415 - after the handlers

    cli.run()


if __name__ == "__main__":
    run()
