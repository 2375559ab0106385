"""How many wrong keys an address may present: who guesses is slowed down, and told nothing more."""

import ipaddress
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeVar

from limits import RateLimitItemPerMinute

from contact_gateway.access.counters import Counters
from contact_gateway.access.principals import Credential

Key = TypeVar("Key")

_MAX_REMEMBERED: Final = 10_000
_REMEMBERED_SECONDS: Final = 60.0
# Who has one address of IPv6 has all of such a network.
_IPV6_NETWORK: Final = 64


@dataclass(frozen=True, slots=True)
class TooManyWrongKeys:
    """From this address came too many wrong keys; for so many seconds none is looked at."""

    seconds: int


class KeyGuessLimiter:
    """Counts the wrong keys of each address, for all who ask in this process.

    An address with too many is refused for the rest of the minute, whatever key it presents. Not
    so the keys that were right a moment ago: beside them, behind one address, may sit who guesses.
    """

    def __init__(self, per_minute: int, counters: Counters | None = None) -> None:
        self._limit: Final = RateLimitItemPerMinute(per_minute)
        self._counters: Final = counters or Counters()
        self._refused_until: Final[OrderedDict[str, float]] = OrderedDict()
        # By their digests: the keys themselves are kept nowhere.
        self._right: Final[OrderedDict[bytes, float]] = OrderedDict()

    def refusal(self, address: str, credential: Credential) -> TooManyWrongKeys | None:
        """Return why a credential from an address is not looked at, or None where it is."""
        if not self._refused_until:
            return None
        until = self._refused_until.get(_network(address))
        now = time.time()
        if until is None or until <= now:
            return None
        if now < self._right.get(credential.digest, 0.0) + _REMEMBERED_SECONDS:
            return None
        return TooManyWrongKeys(math.ceil(until - now))

    async def wrong(self, address: str) -> None:
        """Count a wrong key of an address."""
        network = _network(address)
        window = await self._counters.hit(self._limit, f"guesses:{network}")
        if window.exceeded:
            _remember(self._refused_until, network, window.resets_at)

    def right(self, credential: Credential) -> None:
        """Remember that a key was right."""
        _remember(self._right, credential.digest, time.time())


def _remember(kept: OrderedDict[Key, float], key: Key, moment: float) -> None:
    kept[key] = moment
    kept.move_to_end(key)
    if len(kept) > _MAX_REMEMBERED:
        kept.popitem(last=False)


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    mapped = ip.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((ip, _IPV6_NETWORK), strict=False))
