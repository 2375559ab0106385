import time
from collections.abc import Callable

import pytest

from contact_gateway.access.principals import Principal, Role
from contact_gateway.access.quota import Quota
from contact_gateway.access.rate_limits import HourlyBudget, hourly_budget

pytestmark = pytest.mark.anyio

NOON = 1_750_000_000.0
KEY = Principal(key_id=1, label="one", role=Role.ADMIN)
OTHER_KEY = Principal(key_id=2, label="two", role=Role.ADMIN)

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Stop the clock at so many seconds after noon; it starts at noon."""

    def set_clock(seconds_after_noon: float) -> None:
        monkeypatch.setattr(time, "time", lambda: NOON + seconds_after_noon)

    set_clock(0)
    return set_clock


async def test_each_operation_takes_one_of_the_budget(set_clock: SetClock) -> None:
    set_clock(0)
    budget = HourlyBudget(2)

    windows = [await budget.spend(KEY) for _ in range(3)]

    assert [(window.remaining, window.exceeded) for window in windows] == [
        (1, False),
        (0, False),
        (0, True),
    ]
    assert {window.limit for window in windows} == {2}


async def test_the_window_opens_with_the_first_operation_and_lasts_an_hour(
    set_clock: SetClock,
) -> None:
    budget = HourlyBudget(5)
    set_clock(100)

    first = await budget.spend(KEY)
    set_clock(3_699)
    last = await budget.spend(KEY)

    assert first.resets_at == last.resets_at == NOON + 3_700
    assert (last.remaining, last.seconds_left()) == (3, 1)


async def test_the_budget_is_full_again_when_the_hour_is_over(set_clock: SetClock) -> None:
    budget = HourlyBudget(1)
    await budget.spend(KEY)
    refused = await budget.spend(KEY)

    set_clock(refused.seconds_left())
    again = await budget.spend(KEY)

    assert (refused.exceeded, refused.seconds_left()) == (True, 1)
    assert not again.exceeded
    assert again.resets_at == NOON + 7_200


async def test_operations_over_the_limit_do_not_move_the_end_of_the_window(
    set_clock: SetClock,
) -> None:
    budget = HourlyBudget(1)
    await budget.spend(KEY)

    set_clock(1_800)
    refused = [await budget.spend(KEY) for _ in range(10)]

    assert {window.resets_at for window in refused} == {NOON + 3_600}
    assert {window.seconds_left() for window in refused} == {1_800}


async def test_each_key_has_a_budget_of_its_own() -> None:
    budget = HourlyBudget(1)
    await budget.spend(KEY)

    assert (await budget.spend(KEY)).exceeded
    assert not (await budget.spend(OTHER_KEY)).exceeded


async def test_looking_at_the_window_counts_nothing() -> None:
    budget = HourlyBudget(3)
    await budget.spend(KEY)

    windows = [await budget.window(KEY) for _ in range(5)]

    assert {(window.remaining, window.exceeded) for window in windows} == {(2, False)}


async def test_a_key_that_did_nothing_has_its_whole_budget(set_clock: SetClock) -> None:
    set_clock(0)

    window = await HourlyBudget(3).window(KEY)

    assert (window.limit, window.remaining, window.exceeded) == (3, 3, False)
    assert NOON <= window.resets_at <= NOON + 3_600


@pytest.mark.parametrize(
    ("resets_in", "seconds"),
    [
        pytest.param(12.0, 12, id="whole seconds"),
        pytest.param(11.01, 12, id="rounded up"),
        pytest.param(0.0, 1, id="now is in a second"),
        pytest.param(-5.0, 1, id="the past is in a second"),
    ],
)
async def test_seconds_left_are_whole_and_at_least_one(
    set_clock: SetClock, resets_in: float, seconds: int
) -> None:
    set_clock(0)

    assert Quota(limit=1, remaining=0, resets_at=NOON + resets_in).seconds_left() == seconds


async def test_without_a_limit_nothing_is_counted_and_nothing_is_told() -> None:
    budget = hourly_budget(0)

    assert [await budget.spend(KEY) for _ in range(3)] == [None, None, None]
    assert await budget.window(KEY) is None


async def test_a_limit_makes_a_budget_of_that_size() -> None:
    window = await hourly_budget(10_000).window(KEY)

    assert window is not None
    assert window.limit == 10_000
