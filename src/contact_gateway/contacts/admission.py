"""The rules that every operation shares: a valid key, within its quota."""

from contact_gateway.access.key_guessing import TooManyWrongKeys
from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts.outcomes import RateLimited, Unauthorized
from contact_gateway.contacts.source import Access, ContactCaller


async def authenticated(caller: ContactCaller) -> Access | Unauthorized | RateLimited:
    """Rule 1: the caller presents a valid key, from an address that is not guessing keys."""
    access = await caller.access()
    if isinstance(access, TooManyWrongKeys):
        seconds = access.seconds
        return RateLimited(
            seconds, f"Too many wrong API keys came from this address. Retry in {seconds} s."
        )
    if isinstance(access, KeyRefusal):
        return Unauthorized(access)
    return access


async def within_quota(caller: ContactCaller, access: Access) -> RateLimited | None:
    """Rule 3: count one operation against the key's quota."""
    quota = await caller.spend(access.principal)
    return RateLimited(quota.seconds_left()) if quota is not None and quota.exceeded else None


async def may_read(caller: ContactCaller) -> Access | Unauthorized | RateLimited:
    """Rules 1 and 3 for reads: any valid key; all reads of a request count as one operation."""
    access = await authenticated(caller)
    if isinstance(access, (Unauthorized, RateLimited)):
        return access
    quota = await caller.spend_on_reads(access.principal)
    if quota is not None and quota.exceeded:
        return RateLimited(quota.seconds_left())
    return access
