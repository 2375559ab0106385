"""The client's address, seen through trusted proxies."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

TrustedProxy: TypeAlias = Network | Literal["unix"]
"""A network of proxies, or all processes that connect to a Unix socket."""

UNIX: Final = "unix"
"""The address of all peers of Unix sockets, which have none."""

UNKNOWN: Final = "unknown"
"""The address of a connection that has lost it."""

# RFC 7239, section 4: a value is a token, or a quoted string if it has a colon or a bracket.
_FORWARDED_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)


def client_address(
    peer: str | None, headers: Mapping[str, str], trusted: Sequence[TrustedProxy]
) -> str:
    """Return the last address in the chain of proxies that is not a trusted proxy's.

    The chain is in `X-Forwarded-For`, `Forwarded` (RFC 7239) or `X-Real-IP`. A proxy that writes
    one of them may pass on the client's others. If they name different clients, none is believed,
    and the address is the proxy's.

    Args:
        peer: the other end of the connection.
        headers: the headers of the request, by lower-case name.
        trusted: the trusted proxies.
    """
    if peer is None or (not trusted and ":" not in peer):
        return peer or UNKNOWN
    address = _normalised(peer) or peer
    if not is_trusted(address, trusted):
        return address
    chains = (
        headers.get("x-forwarded-for", "").split(","),
        [_forwarded_for(element) for element in headers.get("forwarded", "").split(",")],
        [headers.get("x-real-ip", "")],
    )
    found = {_last_untrusted(address, hops, trusted) for hops in chains if any(hops)}
    clients = {each for each in found if not is_trusted(each, trusted)}
    if len(clients) == 1:
        return clients.pop()
    return address if clients or len(found) != 1 else found.pop()


def is_trusted(address: str | None, trusted: Sequence[TrustedProxy]) -> bool:
    """Return whether an address is that of a trusted proxy."""
    if address == UNIX:
        return UNIX in trusted
    ip = parsed_address(address or "")
    return ip is not None and any(ip in each for each in trusted if each != UNIX)


def parsed_address(text: str) -> Address | None:
    """Return an address, or None if the text is not one.

    A socket that listens on `::` maps IPv4 addresses into ::ffff:0:0/96: they are IPv4 here.
    """
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _last_untrusted(address: str, hops: Sequence[str], trusted: Sequence[TrustedProxy]) -> str:
    for hop in reversed(hops):
        if not is_trusted(address, trusted):
            return address
        address = _parsed(hop.strip()) or address
    return address


def _forwarded_for(element: str) -> str:
    """Return the address in an element of `Forwarded`, or an empty string."""
    match = _FORWARDED_FOR.search(element)
    return "" if match is None else match[1] or match[2] or ""


def _parsed(hop: str) -> str | None:
    """Parse an address with or without a port, as proxies write it; None if it is not one."""
    text = hop
    if hop.startswith("["):
        text = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        text = hop.partition(":")[0]
    return _normalised(text)


def _normalised(text: str) -> str | None:
    ip = parsed_address(text)
    return None if ip is None else str(ip)
