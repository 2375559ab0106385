"""Limits wrong API keys per client address."""

import ipaddress
import math
import time
from typing import Final, NamedTuple

from contact_gateway.access.bounded_dict import BoundedDict
from contact_gateway.access.client_address import parsed_address
from contact_gateway.access.counters import Counters, Limit
from contact_gateway.access.principals import Credential

_MAX_ENTRIES: Final = 10_000
_SECONDS: Final = 60
_GRACE_SECONDS: Final = 60.0
# One IPv6 subscriber usually owns a whole /64.
_IPV6_PREFIX: Final = 64


class TooManyWrongKeys(NamedTuple):
    """The address sent too many wrong keys and is blocked for this many seconds."""

    seconds: int


class KeyGuessLimiter:
    """Counts wrong keys per address and blocks an address that sends too many.

    The block lasts for the rest of the minute and applies to every key, except keys that were valid
    within the last minute: an attacker may share the address of a NAT with legitimate clients.
    """

    def __init__(self, per_minute: int, counters: Counters | None = None) -> None:
        self._limit: Final = Limit(per_minute, _SECONDS)
        self._counters: Final = counters or Counters()
        self._blocked_until: Final = BoundedDict[str, float](_MAX_ENTRIES)
        # By digest, so that no key is held in memory.
        self._right_at: Final = BoundedDict[bytes, float](_MAX_ENTRIES)

    def refusal(self, address: str, credential: Credential) -> TooManyWrongKeys | None:
        """Return the block that applies to this credential from this address, or None."""
        if not self._blocked_until:
            return None
        until = self._blocked_until.get(_network(address))
        now = time.time()
        # A block that ends later than the longest one is older than the clock's last change.
        if until is None or not now < until <= now + self._limit.seconds:
            return None
        if 0 <= now - self._right_at.get(credential.digest, 0.0) < _GRACE_SECONDS:
            return None
        return TooManyWrongKeys(math.ceil(until - now))

    async def record_wrong(self, address: str) -> None:
        """Count a wrong key; block the address if it was one too many."""
        network = _network(address)
        quota = await self._counters.hit(self._limit, f"guesses:{network}")
        if quota.exceeded:
            self._blocked_until[network] = quota.resets_at

    def record_right(self, credential: Credential) -> None:
        """Remember that a key was valid, to the second."""
        now = time.time()
        if not 0 <= now - self._right_at.get(credential.digest, 0.0) < 1:
            self._right_at[credential.digest] = now


def _network(address: str) -> str:
    """Return what an address is counted by: itself, or the /64 of an IPv6 address."""
    ip = parsed_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
    return address if ip is None else str(ip)
