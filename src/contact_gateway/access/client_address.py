"""The client's address, seen through trusted proxies."""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""The address of a connection that has none, such as a Unix socket."""


def client_address(peer: str | None, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the last address in the chain of proxies that is not a trusted proxy's.

    Args:
        peer: the other end of the connection.
        forwarded_for: the header `X-Forwarded-For`; each proxy appends its client's address.
        trusted: the networks of the trusted proxies.
    """
    address = peer or UNKNOWN
    if not trusted or not forwarded_for:
        return address
    for hop in reversed(forwarded_for.split(",")):
        if not _is_trusted(address, trusted):
            return address
        address = _parsed(hop.strip()) or address
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in trusted)


def _parsed(hop: str) -> str | None:
    """Parse an address with or without a port, as proxies write it; None if it is not one."""
    text = hop
    if hop.startswith("["):
        text = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        text = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
