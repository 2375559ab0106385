"""The caller of one request: authenticated at most once, and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from contact_gateway.access.client_address import UNKNOWN
from contact_gateway.access.key_guessing import KeyGuessLimiter, TooManyWrongKeys
from contact_gateway.access.principals import Authenticated, Credential, KeyRefusal, Principal
from contact_gateway.access.quota import Quota
from contact_gateway.access.rate_limits import HourlyRateLimit

# An expired or revoked key was once valid, so presenting it is not guessing.
_WRONG: Final = frozenset({KeyRefusal.MALFORMED, KeyRefusal.UNKNOWN})

Access = TypeVar("Access", bound=Authenticated)


class Caller(Generic[Access]):
    """The sender of a request: its credential, its access once authenticated, and its quota.

    Authentication is lazy and happens once per request, even if it fails.
    """

    def __init__(
        self,
        credential: Credential | None,
        authenticate: Callable[[Credential], Awaitable[Access | KeyRefusal]],
        rate_limit: HourlyRateLimit | None = None,
        guesses: KeyGuessLimiter | None = None,
        address: str = UNKNOWN,
    ) -> None:
        self._credential: Final = credential
        self._authenticate: Final = authenticate
        self._rate_limit: Final = rate_limit
        self._guesses: Final = guesses
        self._address: Final = address
        self._lock: Final = asyncio.Lock()
        self._decorate: Callable[[Access], Access] | None = None
        self._access: Access | KeyRefusal | TooManyWrongKeys | None = None
        self._failure: Exception | None = None
        self._quota: Quota | None = None
        self._quota_of_reads: Quota | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the credential has proved right, so far in this request."""
        owner = self._owner()
        return owner is not None and owner.is_refused is False

    def decorate(self, decorate: Callable[[Access], Access]) -> None:
        """Have `access` return its result decorated. Call this before the first `access`."""
        self._decorate = decorate

    async def access(self) -> Access | KeyRefusal | TooManyWrongKeys:
        """Authenticate, and return the access of the credential or why there is none.

        Raises:
            Exception: what authentication raised, again at each call.
        """
        if self._credential is None:
            return KeyRefusal.MISSING
        if self._access is not None:
            return self._access
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._access is None:
                try:
                    self._access = await self._authenticated(self._credential)
                except Exception as error:
                    self._failure = error
                    raise
            return self._access

    async def _authenticated(
        self, credential: Credential
    ) -> Access | KeyRefusal | TooManyWrongKeys:
        if self._guesses is not None:
            refusal = self._guesses.refusal(self._address, credential)
            if refusal is not None:
                return refusal
        access = await self._authenticate(credential)
        if isinstance(access, KeyRefusal):
            if self._guesses is not None and access in _WRONG:
                await self._guesses.record_wrong(self._address)
            return access
        return access if self._decorate is None else self._decorate(access)

    async def conclude(self) -> None:
        """Record at the end of the request whether its credential proved right or wrong."""
        owner = self._owner()
        if self._guesses is None or self._credential is None or owner is None:
            return
        if owner.is_refused:
            await self._guesses.record_wrong(self._address)
        elif owner.is_refused is False:
            self._guesses.record_right(self._credential)

    async def spend(self, principal: Principal, *, operations: int = 1) -> Quota | None:
        """Count operations; return the quota after them, or None where nothing is counted."""
        if self._rate_limit is not None and principal.quota_key is not None:
            self._quota = await self._rate_limit.hit(principal.quota_key, operations)
        return self._quota

    async def spend_on_reads(self, principal: Principal) -> Quota | None:
        """Count all reads of this request as one operation."""
        async with self._lock:
            if self._quota_of_reads is None:
                self._quota_of_reads = await self.spend(principal)
            return self._quota_of_reads

    async def quota(self) -> Quota | None:
        """Return what is left of the quota, as of the last operation of this request.

        None without an accepted credential, without a limit, and where authentication failed.
        """
        if self._quota is not None:
            return self._quota
        if self._failure is not None:
            return None
        await self.access()
        owner = self._owner()
        if owner is None:
            return None
        if owner.quota_key is None:
            return owner.reported_quota
        return None if self._rate_limit is None else await self._rate_limit.read(owner.quota_key)

    def _owner(self) -> Principal | None:
        """Return the owner of the credential; None until it is authenticated, and if it is not."""
        access = self._access
        if access is None or isinstance(access, (KeyRefusal, TooManyWrongKeys)):
            return None
        return access.principal
