"""The client's address, seen through trusted proxies."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

TrustedProxy: TypeAlias = Network | Literal["unix"]
"""A network of proxies, or all processes that connect to a Unix socket."""

UNIX: Final = "unix"
"""The address of all peers of Unix sockets, which have none."""

UNKNOWN: Final = "unknown"
"""The address of a connection that has lost it."""

# An IPv6 address with the longest name of an interface is shorter.
_MAX_LENGTH: Final = 64

# The library takes 20 µs to parse and compare addresses, and a client sends many requests.
_MAX_CACHED: Final = 1024
_MAX_CACHED_LENGTH: Final = 256

# RFC 7239, section 4: a value is a token, or a quoted string if it has a colon or a bracket.
_FORWARDED_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)


@dataclass(frozen=True, eq=False, slots=True)
class TrustedProxies:
    """The proxies whose headers are believed."""

    proxies: Sequence[TrustedProxy] = ()

    def trust(self, address: str | None) -> bool:
        """Return whether an address is that of a trusted proxy."""
        return address is not None and len(address) <= _MAX_LENGTH and _trusts(self, address)


def client_address(peer: str | None, headers: Mapping[str, str], trusted: TrustedProxies) -> str:
    """Return the last address in the chain of proxies that is not a trusted proxy's.

    The chain is in `X-Forwarded-For`, `Forwarded` (RFC 7239) or `X-Real-IP`. A proxy that writes
    one of them may pass on the client's others. If they name different clients, none is believed,
    and the address is the proxy's.

    Args:
        peer: the other end of the connection.
        headers: the headers of the request, by lower-case name.
        trusted: the trusted proxies.
    """
    if peer is None or (not trusted.proxies and ":" not in peer):
        return peer or UNKNOWN
    chains = tuple(headers.get(name, "") for name in ("x-forwarded-for", "forwarded", "x-real-ip"))
    is_short = sum(map(len, chains)) <= _MAX_CACHED_LENGTH
    find = _client_address if is_short else _client_address.__wrapped__
    return find(peer, *chains, trusted)


@lru_cache(_MAX_CACHED)
def _trusts(trusted: TrustedProxies, address: str) -> bool:
    if address == UNIX:
        return UNIX in trusted.proxies
    ip = parsed_address(address)
    return ip is not None and any(ip in each for each in trusted.proxies if each != UNIX)


@lru_cache(_MAX_CACHED)
def _client_address(
    peer: str, forwarded_for: str, forwarded: str, real_ip: str, trusted: TrustedProxies
) -> str:
    address = _normalised(peer) or peer
    if not trusted.trust(address):
        return address
    chains = (
        forwarded_for.split(","),
        [_forwarded_for(element) for element in forwarded.split(",")],
        [real_ip],
    )
    found = {_last_untrusted(address, hops, trusted) for hops in chains if any(hops)}
    clients = {each for each in found if not trusted.trust(each)}
    if len(clients) == 1:
        return clients.pop()
    return address if clients or len(found) != 1 else found.pop()


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


def _last_untrusted(address: str, hops: Sequence[str], trusted: TrustedProxies) -> str:
    for hop in reversed(hops):
        if not trusted.trust(address):
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
