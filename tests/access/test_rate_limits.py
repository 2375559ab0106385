import time
from collections.abc import Callable

import pytest

from contact_gateway.access.counters import Counters
from contact_gateway.access.quota import Quota
from contact_gateway.access.rate_limits import HourlyRateLimit

pytestmark = pytest.mark.anyio

NOON = 1_750_000_000.0
KEY = "1"
OTHER_KEY = "2"

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Stop the clock at so many seconds after noon; it starts at noon."""

    def set_clock(seconds_after_noon: float) -> None:
        monkeypatch.setattr(time, "time", lambda: NOON + seconds_after_noon)

    set_clock(0)
    return set_clock


async def test_each_operation_uses_one_of_the_quota(set_clock: SetClock) -> None:
    set_clock(0)
    rate_limit = HourlyRateLimit(2)

    quotas = [await rate_limit.hit(KEY) for _ in range(3)]

    assert [(window.remaining, window.exceeded) for window in quotas] == [
        (1, False),
        (0, False),
        (0, True),
    ]
    assert {window.limit for window in quotas} == {2}


async def test_the_window_opens_with_the_first_operation_and_lasts_an_hour(
    set_clock: SetClock,
) -> None:
    rate_limit = HourlyRateLimit(5)
    set_clock(100)

    first = await rate_limit.hit(KEY)
    set_clock(3_699)
    last = await rate_limit.hit(KEY)

    assert first.resets_at == last.resets_at == NOON + 3_700
    assert (last.remaining, last.seconds_left()) == (3, 1)


async def test_the_quota_is_full_again_after_the_hour(set_clock: SetClock) -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(KEY)
    refused = await rate_limit.hit(KEY)

    set_clock(refused.seconds_left())
    again = await rate_limit.hit(KEY)

    assert (refused.exceeded, refused.seconds_left()) == (True, 1)
    assert not again.exceeded
    assert again.resets_at == NOON + 7_200


@pytest.mark.parametrize("days", [1, 2, 400])
async def test_a_clock_that_is_set_back_opens_a_new_window(set_clock: SetClock, days: int) -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(KEY)
    set_clock(-86_400 * days)

    unused = await rate_limit.read(KEY)
    first = await rate_limit.hit(KEY)
    refused = await rate_limit.hit(KEY)

    assert (unused.remaining, first.exceeded, refused.exceeded) == (1, False, True)
    assert refused.seconds_left() == 3_600


async def test_a_clock_that_is_set_back_a_little_keeps_the_window(set_clock: SetClock) -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(KEY)
    set_clock(1_800)
    await rate_limit.read(KEY)
    set_clock(600)

    refused = await rate_limit.hit(KEY)

    assert (refused.exceeded, refused.seconds_left()) == (True, 3_000)


async def test_windows_that_ended_are_deleted_although_the_clock_was_set_back(
    set_clock: SetClock,
) -> None:
    counters = Counters()
    rate_limit = HourlyRateLimit(1, counters)
    await rate_limit.hit(KEY)
    set_clock(-86_400)

    await rate_limit.hit(OTHER_KEY)

    windows = counters._windows  # noqa: SLF001 - nothing else shows what is in memory
    assert [key for _, key in windows] == [OTHER_KEY]


async def test_windows_that_are_open_are_kept_when_ended_ones_are_deleted(
    set_clock: SetClock,
) -> None:
    counters = Counters()
    rate_limit = HourlyRateLimit(1, counters)
    await rate_limit.hit(KEY)
    set_clock(1_800)
    await rate_limit.hit(OTHER_KEY)
    set_clock(3_600)

    await rate_limit.hit("a third")

    windows = counters._windows  # noqa: SLF001 - nothing else shows what is in memory
    assert [key for _, key in windows] == [OTHER_KEY, "a third"]
    assert (await rate_limit.hit(OTHER_KEY)).exceeded


async def test_operations_over_the_limit_do_not_move_the_end_of_the_window(
    set_clock: SetClock,
) -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(KEY)

    set_clock(1_800)
    refused = [await rate_limit.hit(KEY) for _ in range(10)]

    assert {window.resets_at for window in refused} == {NOON + 3_600}
    assert {window.seconds_left() for window in refused} == {1_800}


async def test_the_excess_is_how_many_of_the_operations_just_counted_were_too_many() -> None:
    rate_limit = HourlyRateLimit(3)

    quotas = [await rate_limit.hit(KEY, operations) for operations in (2, 2, 2, 1)]

    assert [(quota.remaining, quota.excess) for quota in quotas] == [(1, 0), (0, 1), (0, 2), (0, 1)]


async def test_each_key_has_its_own_quota() -> None:
    rate_limit = HourlyRateLimit(1)
    await rate_limit.hit(KEY)

    assert (await rate_limit.hit(KEY)).exceeded
    assert not (await rate_limit.hit(OTHER_KEY)).exceeded


async def test_reading_the_quota_counts_nothing() -> None:
    rate_limit = HourlyRateLimit(3)
    await rate_limit.hit(KEY)

    quotas = [await rate_limit.read(KEY) for _ in range(5)]

    assert {(window.remaining, window.exceeded) for window in quotas} == {(2, False)}


async def test_an_unused_key_has_its_whole_quota(set_clock: SetClock) -> None:
    set_clock(0)

    window = await HourlyRateLimit(3).read(KEY)

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
