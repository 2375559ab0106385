"""Key guessing: after too many wrong keys in a minute, an address is refused."""

import time
from collections.abc import Callable

import pytest

from contact_gateway.access.key_guessing import KeyGuessLimiter, TooManyWrongKeys
from contact_gateway.access.principals import Credential

pytestmark = pytest.mark.anyio

NOON = 1_750_000_000.0
ADDRESS, OTHER_ADDRESS = "192.0.2.1", "192.0.2.2"
KEY = Credential.of("any key")

SetClock = Callable[[float], None]


@pytest.fixture(autouse=True)
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Stop the clock at noon; return a function that sets the seconds after noon."""

    def set_clock(seconds_after_noon: float) -> None:
        monkeypatch.setattr(time, "time", lambda: NOON + seconds_after_noon)

    set_clock(0)
    return set_clock


async def _guess(guesses: KeyGuessLimiter, address: str, times: int) -> None:
    for _ in range(times):
        await guesses.record_wrong(address)


async def test_wrong_keys_up_to_the_limit_are_accepted() -> None:
    guesses = KeyGuessLimiter(3)
    await _guess(guesses, ADDRESS, 3)

    assert guesses.refusal(ADDRESS, KEY) is None


async def test_one_more_wrong_key_refuses_the_address_until_the_minute_ends(
    set_clock: SetClock,
) -> None:
    guesses = KeyGuessLimiter(3)
    await _guess(guesses, ADDRESS, 4)

    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(60)
    set_clock(49.6)
    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(11)
    set_clock(59)
    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(1)
    set_clock(60)
    assert guesses.refusal(ADDRESS, KEY) is None


async def test_another_address_is_not_refused() -> None:
    guesses = KeyGuessLimiter(3)
    await _guess(guesses, ADDRESS, 4)

    assert guesses.refusal(OTHER_ADDRESS, KEY) is None


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("a-test-client", "a-test-client", True),
        ("a-test-client", "another-test-client", False),
    ],
)
async def test_addresses_of_one_ipv6_network_count_together(
    one: str, other: str, *, is_same: bool
) -> None:
    guesses = KeyGuessLimiter(1)
    await _guess(guesses, one, 2)

    assert (guesses.refusal(other, KEY) is not None) is is_same


async def test_a_key_that_was_right_within_a_minute_is_not_refused(
    set_clock: SetClock,
) -> None:
    """Honest callers may share an address with guessing ones."""
    guesses = KeyGuessLimiter(3)
    guesses.record_right(KEY)
    set_clock(30)
    await _guess(guesses, ADDRESS, 4)

    assert guesses.refusal(ADDRESS, KEY) is None
    assert guesses.refusal(ADDRESS, Credential.of("another")) == TooManyWrongKeys(60)
    set_clock(59)
    assert guesses.refusal(ADDRESS, KEY) is None
    set_clock(60)
    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(30)


async def test_keys_are_not_stored_in_plain_text() -> None:
    guesses = KeyGuessLimiter(3)
    guesses.record_right(KEY)

    assert KEY.secret not in repr(vars(guesses))


async def test_the_number_of_refused_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contact_gateway.access.key_guessing._MAX_ENTRIES", 2)
    guesses = KeyGuessLimiter(1)
    for number in range(3):
        await _guess(guesses, f"192.0.2.{number}", 2)

    refused = [guesses.refusal(f"192.0.2.{number}", KEY) is not None for number in range(3)]
    assert refused == [False, True, True]


async def test_a_clock_that_is_set_back_ends_the_block(set_clock: SetClock) -> None:
    guesses = KeyGuessLimiter(3)
    await _guess(guesses, ADDRESS, 4)
    set_clock(-172_800)

    assert guesses.refusal(ADDRESS, KEY) is None

    await _guess(guesses, ADDRESS, 4)
    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(60)


async def test_a_clock_that_is_set_back_ends_the_grace_of_a_right_key(set_clock: SetClock) -> None:
    guesses = KeyGuessLimiter(3)
    guesses.record_right(KEY)
    set_clock(-172_800)
    await _guess(guesses, ADDRESS, 4)

    assert guesses.refusal(ADDRESS, KEY) == TooManyWrongKeys(60)
    guesses.record_right(KEY)
    assert guesses.refusal(ADDRESS, KEY) is None
