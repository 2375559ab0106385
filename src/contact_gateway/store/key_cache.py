"""API keys at hand: one that is used again and again is not looked up and proved each time."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cachetools import TLRUCache

from contact_gateway.access import api_keys
from contact_gateway.access.api_keys import KeyRecord
from contact_gateway.access.principals import Credential, KeyRefusal, Principal
from contact_gateway.store.reader import GroupReader

REVOKED_WITHIN_SECONDS: Final = 5.0
"""How long after a key is revoked, by whatever process, it may still be taken."""

_MAX_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class _Kept:
    principal: Principal
    until: float


def _until(_: bytes, kept: _Kept, _now: float) -> float:
    return kept.until


class KeyCache:
    """Tells whom keys speak for, and keeps for a moment whom good ones do, by a digest of them.

    What is no key is looked up each time. So a key can be used as soon as it is made, and who
    guesses displaces nobody's.
    """

    def __init__(
        self, keys: GroupReader[str, KeyRecord], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys: Final = keys
        self._clock: Final = clock
        self._kept: Final = TLRUCache[bytes, _Kept](_MAX_KEPT, _until, timer=clock)

    async def authenticate(self, credential: Credential) -> Principal | KeyRefusal:
        """Return whom a key speaks for; a malformed one costs no look-up.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        digest = hashlib.sha256(credential.secret.encode(errors="surrogatepass")).digest()
        kept = self._kept.get(digest)
        if kept is not None:
            return kept.principal
        presented = api_keys.parse(credential.secret)
        if presented is None:
            return KeyRefusal.MALFORMED
        # Counted from before it is read: it may be revoked while it is.
        until = self._clock() + REVOKED_WITHIN_SECONDS
        record = await self._keys.get(presented.lookup)
        now = datetime.now(UTC)
        principal = api_keys.verify(presented, record, now)
        if record is not None and isinstance(principal, Principal):
            if record.expires_at is not None:
                until = min(until, self._clock() + (record.expires_at - now).total_seconds())
            self._kept[digest] = _Kept(principal, until)
        return principal
