"""Ask the gateway on this machine whether it is alive, or ready.

Container engines run this every few seconds, so it imports little: neither a client for HTTP nor
`settings.py`. `__main__` runs it without the command line.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from contact_gateway.variables import SettingsError, read_named

_TIMEOUT_SECONDS: Final = 3
_OK: Final = 200
_MAX_PORT: Final = 65535
# An address to listen on that stands for all interfaces, and one of them.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is not listened on


class Options(NamedTuple):
    """The options of the command.

    Attributes:
        url: the gateway's base URL. Without it, the settings have the address.
        uds: the Unix socket that the gateway listens on, instead.
        ready: ask whether it is ready, not only whether it is alive.
    """

    url: str | None = None
    uds: str | None = None
    ready: bool = False


class Health(NamedTuple):
    """Whether the gateway is healthy, and a sentence that says what it answers."""

    is_healthy: bool
    found: str


def run(arguments: Sequence[str]) -> None:
    """Check the gateway, and exit. Return if the command line has to read the arguments."""
    options = _parsed(arguments)
    if options is None:
        return
    try:
        health = check(options)
    except SettingsError as error:
        health = Health(is_healthy=False, found=str(error))
    # The status counts, also if the sentence cannot be written.
    with suppress(OSError):
        if health.is_healthy:
            os.write(1, f"{health.found}\n".encode(errors="backslashreplace"))
        else:
            os.write(2, f"Error: {health.found}\n".encode(errors="backslashreplace"))
    sys.exit(0 if health.is_healthy else 1)


def check(options: Options) -> Health:
    """Return what the gateway answers.

    Raises:
        SettingsError: an option or a setting is invalid.
    """
    if options.url is not None and options.uds is not None:
        raise SettingsError("Use either --url or --uds.")
    path = "/readyz" if options.ready else "/healthz"
    if options.uds is not None:
        place = f"{options.uds}, {path}"
        connection = socket.socket(socket.AF_UNIX)
        target: str | tuple[str, int] = options.uds
    else:
        host, port, base_path = _address(options.url)
        path = base_path + path
        is_ipv6 = ":" in host
        place = f"http://{f'[{host}]' if is_ipv6 else host}:{port}{path}"
        connection = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
        target = (host, port)
    status = None
    try:
        with connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(target)
            status = _status(connection, path)
        found = "does not answer in HTTP" if status is None else f"answers {status}"
    except TimeoutError:
        found = f"does not answer in {_TIMEOUT_SECONDS} s"
    # Python raises a TypeError for an international name that it cannot encode.
    except TypeError:
        found = "does not answer: not a host name"
    except OSError as error:
        found = f"does not answer: {error.strerror or error}"
    return Health(status == _OK, f"{place} {found}.")


def _parsed(arguments: Sequence[str]) -> Options | None:
    """Return the options; None for `--help` and for errors."""
    options = Options()
    remaining = iter(arguments)
    for argument in remaining:
        name, has_value, value = argument.partition("=")
        if argument == "--ready":
            options = options._replace(ready=True)
            continue
        value = value if has_value else next(remaining, "")
        if name == "--url" and value:
            options = options._replace(url=value)
        elif name == "--uds" and value:
            options = options._replace(uds=value)
        else:
            return None
    return options


def _address(url: str | None) -> tuple[str, int, str]:
    """Return the host, the port and the base path of the gateway."""
    if url is not None:
        return _address_of(url)
    found = read_named(("host", "port", "admin_host", "admin_port"))
    named_host, port = found.get("host"), found.get("port")
    # The admin port, if there is one, answers instead of the public one.
    if "admin_port" in found:
        named_host, port = found.get("admin_host", named_host), found["admin_port"]
    host = "127.0.0.1" if named_host is None else named_host.value.strip("[]")
    if port is not None and not (port.value.isdecimal() and 1 <= int(port.value) <= _MAX_PORT):
        raise SettingsError(f"{port.name} is {port.value}. Name the gateway's address with --url.")
    return _LOOPBACK.get(host, host), 8000 if port is None else int(port.value), ""


def _address_of(text: str) -> tuple[str, int, str]:
    from urllib.parse import urlsplit  # noqa: PLC0415 - most checks have no URL

    with suppress(ValueError):
        url = urlsplit(text)
        if url.scheme == "http" and url.hostname:
            return url.hostname, url.port or 80, url.path.rstrip("/")
    raise SettingsError(f"--url: {text} is not a URL such as http://127.0.0.1:8000.")


def _status(connection: socket.socket, path: str) -> int | None:
    """Return the status of the answer to a GET request; None if there is none."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    with connection.makefile("rb") as answer:
        head = answer.readline(4096)
    match head.split():
        case [version, status, *_] if version.startswith(b"HTTP/1.") and status.isdigit():
            return int(status)
        case _:
            return None
