import asyncio

import pytest

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal, Principal, Role
from contact_gateway.access.rate_limits import HourlyBudget, Unlimited

pytestmark = pytest.mark.anyio

ADMIN = Principal(key_id=1, label="ci", role=Role.ADMIN)


class Keys:
    """Who may come in, and how often that was asked. A look-up takes a turn of the event loop."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def authenticate(self, credential: Credential) -> Principal | KeyRefusal:
        self.asked.append(credential.secret)
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
        return ADMIN if credential.secret == "good" else KeyRefusal.UNKNOWN


@pytest.fixture
def keys() -> Keys:
    return Keys()


async def test_a_good_credential_speaks_for_its_owner(keys: Keys) -> None:
    caller = Caller(Credential("good"), keys.authenticate, Unlimited())

    assert caller.presents_credential
    assert await caller.principal() == ADMIN


async def test_a_bad_credential_speaks_for_nobody(keys: Keys) -> None:
    caller = Caller(Credential("bad"), keys.authenticate, Unlimited())

    assert caller.presents_credential
    assert await caller.principal() is KeyRefusal.UNKNOWN


async def test_no_credential_is_missing_without_a_look_up(keys: Keys) -> None:
    caller = Caller(None, keys.authenticate, Unlimited())

    assert not caller.presents_credential
    assert await caller.principal() is KeyRefusal.MISSING
    assert keys.asked == []


async def test_an_empty_credential_is_looked_at_like_any_other(keys: Keys) -> None:
    caller = Caller(Credential(""), keys.authenticate, Unlimited())

    assert caller.presents_credential
    assert await caller.principal() is KeyRefusal.UNKNOWN


async def test_nothing_is_looked_up_before_it_is_asked_for(keys: Keys) -> None:
    caller = Caller(Credential("good"), keys.authenticate, Unlimited())

    assert caller.presents_credential
    assert keys.asked == []


@pytest.mark.parametrize("credential", ["good", "bad"])
async def test_a_request_is_authenticated_once_also_by_concurrent_parts(
    keys: Keys, credential: str
) -> None:
    caller = Caller(Credential(credential), keys.authenticate, Unlimited())

    found = await asyncio.gather(*(caller.principal() for _ in range(10)))

    assert keys.asked == [credential]
    assert len(set(found)) == 1


async def test_each_spending_counts(keys: Keys) -> None:
    caller = Caller(Credential("good"), keys.authenticate, HourlyBudget(2))

    windows = [await caller.spend(ADMIN) for _ in range(3)]

    assert [window is not None and window.exceeded for window in windows] == [False, False, True]


async def test_all_reads_of_a_request_count_as_one_operation(keys: Keys) -> None:
    budget = HourlyBudget(10)
    caller = Caller(Credential("good"), keys.authenticate, budget)

    windows = await asyncio.gather(*(caller.spend_on_reads(ADMIN) for _ in range(5)))

    assert {window and window.remaining for window in windows} == {9}
    assert (await budget.window(ADMIN)).remaining == 9


async def test_the_reads_of_the_next_request_count_again(keys: Keys) -> None:
    budget = HourlyBudget(10)

    await Caller(Credential("good"), keys.authenticate, budget).spend_on_reads(ADMIN)
    await Caller(Credential("good"), keys.authenticate, budget).spend_on_reads(ADMIN)

    assert (await budget.window(ADMIN)).remaining == 8


async def test_reads_over_budget_stay_refused_for_all_of_the_request(keys: Keys) -> None:
    budget = HourlyBudget(1)
    await budget.spend(ADMIN)
    caller = Caller(Credential("good"), keys.authenticate, budget)

    windows = [await caller.spend_on_reads(ADMIN) for _ in range(2)]

    assert [window is not None and window.exceeded for window in windows] == [True, True]


async def test_without_a_limit_reads_and_creations_have_no_window(keys: Keys) -> None:
    caller = Caller(Credential("good"), keys.authenticate, Unlimited())

    assert await caller.spend(ADMIN) is None
    assert await caller.spend_on_reads(ADMIN) is None
    assert await caller.window() is None


async def test_the_window_tells_what_is_left_and_counts_nothing(keys: Keys) -> None:
    caller = Caller(Credential("good"), keys.authenticate, HourlyBudget(2))
    await caller.spend(ADMIN)

    windows = [await caller.window() for _ in range(3)]

    assert [window and window.remaining for window in windows] == [1, 1, 1]


@pytest.mark.parametrize(
    ("credential", "look_ups"),
    [pytest.param(None, [], id="without a key"), pytest.param("bad", ["bad"], id="with a bad key")],
)
async def test_a_caller_without_a_valid_key_has_no_window(
    keys: Keys, credential: str | None, look_ups: list[str]
) -> None:
    presented = None if credential is None else Credential(credential)
    caller = Caller(presented, keys.authenticate, HourlyBudget(2))

    assert await caller.window() is None
    assert keys.asked == look_ups
