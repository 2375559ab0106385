"""The caller of one request: authenticated at most once, whatever the request holds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from contact_gateway.access.client_address import UNKNOWN
from contact_gateway.access.key_guessing import KeyGuessLimiter, TooManyWrongKeys
from contact_gateway.access.principals import (
    AnyPrincipal,
    Credential,
    ForwardedPrincipal,
    KeyRefusal,
    Principal,
)
from contact_gateway.access.quota import Quota
from contact_gateway.access.rate_limits import Budget

# What was a key once is no guess.
_WRONG: Final = frozenset({KeyRefusal.MALFORMED, KeyRefusal.UNKNOWN})

Authenticate = Callable[[Credential], Awaitable[AnyPrincipal | KeyRefusal]]


class Caller:
    """Who sent a request, and what they may still do in this hour.

    Nothing is looked up before it is asked for, and nothing twice, also when looking it up failed.
    """

    def __init__(
        self,
        credential: Credential | None,
        authenticate: Authenticate,
        budget: Budget,
        guesses: KeyGuessLimiter | None = None,
        address: str = UNKNOWN,
    ) -> None:
        self._credential: Final = credential
        self._authenticate: Final = authenticate
        self._budget: Final = budget
        self._guesses: Final = guesses
        self._address: Final = address
        self._lock: Final = asyncio.Lock()
        self._principal: AnyPrincipal | KeyRefusal | TooManyWrongKeys | None = None
        self._failure: Exception | None = None
        self._spent: Quota | None = None
        self._reads: Quota | None = None
        self._reads_counted = False

    @property
    def presents_credential(self) -> bool:
        """Tell whether there is a credential at all, good or bad."""
        return self._credential is not None

    async def principal(self) -> AnyPrincipal | KeyRefusal | TooManyWrongKeys:
        """Return the owner of the presented key, or why there is none."""
        if self._credential is None:
            return KeyRefusal.MISSING
        if self._principal is not None:
            return self._principal
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._principal is None:
                try:
                    self._principal = await self._judged(self._credential)
                except Exception as error:
                    self._failure = error
                    raise
            return self._principal

    async def _judged(self, credential: Credential) -> AnyPrincipal | KeyRefusal | TooManyWrongKeys:
        if self._guesses is None:
            return await self._authenticate(credential)
        refusal = self._guesses.refusal(self._address, credential)
        if refusal is not None:
            return refusal
        principal = await self._authenticate(credential)
        if isinstance(principal, Principal):
            self._guesses.right(credential)
        elif principal in _WRONG:
            await self._guesses.wrong(self._address)
        return principal

    async def conclude(self) -> None:
        """Take in what the source has said of the credential, at the end of the request."""
        principal = self._principal
        if self._guesses is None or not isinstance(principal, ForwardedPrincipal):
            return
        if principal.reported.is_refused:
            await self._guesses.wrong(self._address)
        elif principal.reported.is_refused is False:
            self._guesses.right(principal.credential)

    async def spend(self, principal: AnyPrincipal) -> Quota | None:
        """Count one operation against the key's budget."""
        self._spent = await self._budget.spend(principal)
        return self._spent

    async def spend_on_reads(self, principal: AnyPrincipal) -> Quota | None:
        """Count all the reads of this request as one operation."""
        if self._reads_counted:
            return self._reads
        async with self._lock:
            if not self._reads_counted:
                self._reads = await self.spend(principal)
                self._reads_counted = True
            return self._reads

    async def window(self) -> Quota | None:
        """Return what is left of the budget, or None without a valid key or without a limit.

        It is as of the last operation of this request, where there was one. Also None where the
        look-up of the key failed before: that was told then.
        """
        if self._spent is not None:
            return self._spent
        if not self.presents_credential or self._failure is not None:
            return None
        principal = await self.principal()
        if isinstance(principal, (KeyRefusal, TooManyWrongKeys)):
            return None
        return await self._budget.window(principal)
