import asyncio
import gc
import weakref
from typing import NamedTuple

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.access.caller import Caller
from contact_gateway.access.key_guessing import KeyGuessLimiter, TooManyWrongKeys
from contact_gateway.access.principals import ApiKeyOwner, Credential, KeyRefusal, Operator, Role
from contact_gateway.access.quota import Quota
from contact_gateway.access.rate_limits import HourlyRateLimit

pytestmark = pytest.mark.anyio

ADMIN = ApiKeyOwner(key_id=1, label="ci", role=Role.ADMIN, secret_hash=bytes(32))


class OwnAccess(NamedTuple):
    """The access of an API key's owner."""

    principal: ApiKeyOwner


class Keys:
    """The valid key, and the lookups made. A lookup takes a turn of the event loop."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def authenticate(self, credential: Credential) -> OwnAccess | KeyRefusal:
        self.asked.append(credential.secret)
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
        return OwnAccess(ADMIN) if credential.secret == "good" else KeyRefusal.UNKNOWN


@pytest.fixture
def keys() -> Keys:
    return Keys()


async def test_a_good_credential_has_the_access_of_its_owner(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate)

    assert await caller.access() == OwnAccess(ADMIN)


async def test_a_bad_credential_is_refused(keys: Keys) -> None:
    caller = Caller(Credential.of("bad"), keys.authenticate)

    assert await caller.access() is KeyRefusal.UNKNOWN


async def test_a_missing_credential_costs_no_lookup(keys: Keys) -> None:
    caller = Caller(None, keys.authenticate)

    assert await caller.access() is KeyRefusal.MISSING
    assert keys.asked == []


async def test_an_empty_credential_is_looked_up_like_any_other(keys: Keys) -> None:
    caller = Caller(Credential.of(""), keys.authenticate)

    assert await caller.access() is KeyRefusal.UNKNOWN


async def test_authentication_is_lazy(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate)

    await caller.conclude()

    assert keys.asked == []


@pytest.mark.parametrize("credential", ["good", "bad"])
async def test_a_request_is_authenticated_once_also_by_concurrent_parts(
    keys: Keys, credential: str
) -> None:
    caller = Caller(Credential.of(credential), keys.authenticate)

    found = await asyncio.gather(*(caller.access() for _ in range(10)))

    assert keys.asked == [credential]
    assert len(set(found)) == 1


async def test_concurrent_parts_of_a_request_share_a_failed_authentication() -> None:
    failures = 0

    async def fail(_: Credential) -> OwnAccess | KeyRefusal:
        nonlocal failures
        failures += 1
        await checkpoint()
        raise OSError("the store is not there")

    caller: Caller[OwnAccess] = Caller(Credential.of("good"), fail)
    found = await asyncio.gather(*(caller.access() for _ in range(3)), return_exceptions=True)

    assert [str(error) for error in found] == ["the store is not there"] * 3
    assert failures == 1
    assert await caller.quota() is None


async def test_a_caller_needs_no_garbage_collector(
    keys: Keys, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(gc.enable)
    gc.disable()
    caller = Caller(Credential.of("good"), keys.authenticate, HourlyRateLimit(2))
    await caller.access()
    await caller.spend_on_reads(ADMIN)
    answered = weakref.ref(caller)

    del caller

    assert answered() is None


async def test_each_spending_counts(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate, HourlyRateLimit(2))

    quotas = [await caller.spend(ADMIN) for _ in range(3)]

    assert [quota is not None and quota.exceeded for quota in quotas] == [False, False, True]


async def test_all_reads_of_a_request_count_as_one_operation(keys: Keys) -> None:
    rate_limit = HourlyRateLimit(10)
    caller = Caller(Credential.of("good"), keys.authenticate, rate_limit)

    quotas = await asyncio.gather(*(caller.spend_on_reads(ADMIN) for _ in range(5)))

    assert {quota and quota.remaining for quota in quotas} == {9}
    assert (await rate_limit.read(ADMIN.quota_key)).remaining == 9


async def test_concurrent_reads_count_as_one_operation_on_a_slow_server(keys: Keys) -> None:
    class SlowLimit(HourlyRateLimit):
        async def hit(self, quota_key: str, operations: int = 1) -> Quota:
            await checkpoint()
            return await super().hit(quota_key, operations)

    rate_limit = SlowLimit(10)
    caller = Caller(Credential.of("good"), keys.authenticate, rate_limit)
    await asyncio.gather(*(caller.spend_on_reads(ADMIN) for _ in range(5)))

    assert (await rate_limit.read(ADMIN.quota_key)).remaining == 9


async def test_the_operators_operations_are_not_counted() -> None:
    """Nor is the operator's credential, which is none, taken for a guess."""

    class OperatorAccess(NamedTuple):
        principal: Operator = Operator()

    async def authenticate(_: Credential) -> OperatorAccess:
        return OperatorAccess()

    guesses = KeyGuessLimiter(1)
    caller = Caller(Credential.of(""), authenticate, HourlyRateLimit(1), guesses, "::1")
    access = await caller.access()
    await caller.conclude()

    assert isinstance(access, OperatorAccess)
    assert await caller.spend(access.principal, operations=5) is None
    assert guesses.refusal("::1", Credential.of("another")) is None


async def test_a_credential_that_was_not_verified_is_neither_right_nor_wrong() -> None:
    """As in front of HiEnergy, where no call was made."""

    class Unverified(NamedTuple):
        role: Role | None = None
        quota_key: str | None = None
        reported_quota: Quota | None = None
        is_refused: bool | None = None

    class UnverifiedAccess(NamedTuple):
        principal: Unverified = Unverified()

    async def authenticate(_: Credential) -> UnverifiedAccess:
        return UnverifiedAccess()

    guesses = KeyGuessLimiter(0)
    credential = Credential.of("a guess")
    caller = Caller(credential, authenticate, guesses=guesses, address="::1")
    await caller.access()
    await caller.conclude()

    assert not caller.is_accepted
    assert guesses.refusal("::1", credential) is None
    await guesses.record_wrong("::1")
    assert guesses.refusal("::1", credential) is not None


async def test_a_caller_from_a_blocked_address_has_no_quota(keys: Keys) -> None:
    guesses = KeyGuessLimiter(0)
    await guesses.record_wrong("::1")
    caller = Caller(Credential.of("good"), keys.authenticate, HourlyRateLimit(2), guesses, "::1")

    assert isinstance(await caller.access(), TooManyWrongKeys)
    assert await caller.quota() is None
    assert not caller.is_accepted
    await caller.conclude()
    assert keys.asked == []


async def test_the_reads_of_the_next_request_count_again(keys: Keys) -> None:
    rate_limit = HourlyRateLimit(10)

    await Caller(Credential.of("good"), keys.authenticate, rate_limit).spend_on_reads(ADMIN)
    await Caller(Credential.of("good"), keys.authenticate, rate_limit).spend_on_reads(ADMIN)

    assert (await rate_limit.read(ADMIN.quota_key)).remaining == 8


async def test_reads_over_the_limit_stay_refused_for_all_of_the_request(keys: Keys) -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(ADMIN.quota_key)
    caller = Caller(Credential.of("good"), keys.authenticate, rate_limit)

    quotas = [await caller.spend_on_reads(ADMIN) for _ in range(2)]

    assert [quota is not None and quota.exceeded for quota in quotas] == [True, True]


async def test_without_a_limit_reads_and_creations_have_no_quota(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate)

    assert await caller.spend(ADMIN) is None
    assert await caller.spend_on_reads(ADMIN) is None
    assert await caller.quota() is None


async def test_reading_the_quota_counts_nothing(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate, HourlyRateLimit(2))
    await caller.spend(ADMIN)

    quotas = [await caller.quota() for _ in range(3)]

    assert [quota and quota.remaining for quota in quotas] == [1, 1, 1]


@pytest.mark.parametrize(
    ("credential", "lookups"),
    [pytest.param(None, [], id="without a key"), pytest.param("bad", ["bad"], id="with a bad key")],
)
async def test_a_caller_without_a_valid_key_has_no_quota(
    keys: Keys, credential: str | None, lookups: list[str]
) -> None:
    presented = None if credential is None else Credential.of(credential)
    caller = Caller(presented, keys.authenticate, HourlyRateLimit(2))

    assert await caller.quota() is None
    assert keys.asked == lookups


async def test_a_decorated_access_is_returned_to_every_part_of_the_request(keys: Keys) -> None:
    caller = Caller(Credential.of("good"), keys.authenticate)
    other = OwnAccess(ADMIN._replace(key_id=2, label="decorated", role=Role.MEMBER))

    caller.decorate(lambda _: other)

    assert [await caller.access() for _ in range(2)] == [other, other]
    assert keys.asked == ["good"]
