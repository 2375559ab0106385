"""The address that a request comes from, through the proxies that are trusted to tell it."""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""Where there is none, as over a Unix socket."""


def client_address(peer: str | None, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the address nearest to this machine that no trusted proxy has.

    Args:
        peer: the other end of the connection.
        forwarded_for: the header `X-Forwarded-For`, in which each proxy adds who asked it.
        trusted: the networks of proxies whose word is taken.
    """
    address = peer or UNKNOWN
    if not trusted or not forwarded_for:
        return address
    for told in reversed(forwarded_for.split(",")):
        if not _is_trusted(address, trusted):
            return address
        address = _without_port(told.strip()) or address
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in trusted)


def _without_port(told: str) -> str | None:
    """Read an address as proxies write it; None where it is none."""
    text = told
    if told.startswith("["):
        text = told[1:].partition("]")[0]
    elif told.count(":") == 1:
        text = told.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
