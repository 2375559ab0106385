"""The circuit: open while upstream is down for all, and tried by one call at a time."""

import pytest

from contact_gateway.upstream.circuit import (
    FAILURES_THAT_OPEN,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Circuit,
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock)


def _fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        assert circuit.admit() is None
        circuit.failed()


def _open(circuit: Circuit) -> float:
    _fail(circuit, FAILURES_THAT_OPEN)
    seconds = circuit.admit()
    assert seconds is not None
    return seconds


def test_a_few_failures_leave_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURES_THAT_OPEN - 1)

    assert circuit.admit() is None


def test_failures_in_a_row_open_it_and_it_says_for_how_long(circuit: Circuit) -> None:
    seconds = _open(circuit)

    assert FIRST_PAUSE_SECONDS * 0.8 <= seconds <= FIRST_PAUSE_SECONDS * 1.2


def test_a_success_between_failures_keeps_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURES_THAT_OPEN - 1)
    circuit.succeeded()
    _fail(circuit, FAILURES_THAT_OPEN - 1)

    assert circuit.admit() is None


def test_after_the_pause_one_call_tries_and_no_other(circuit: Circuit, clock: Clock) -> None:
    clock.seconds += _open(circuit)

    assert circuit.admit() is None
    assert [circuit.admit() for _ in range(100)] == [1.0] * 100


def test_a_trial_that_comes_back_closes_it(circuit: Circuit, clock: Clock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()
    circuit.succeeded()

    assert [circuit.admit() for _ in range(100)] == [None] * 100


def test_each_trial_that_fails_doubles_the_pause_up_to_the_longest(
    circuit: Circuit, clock: Clock
) -> None:
    pauses = [_open(circuit)]
    for _ in range(8):
        clock.seconds += pauses[-1]
        assert circuit.admit() is None
        circuit.failed()
        seconds = circuit.admit()
        assert seconds is not None
        pauses.append(seconds)

    expected = [min(2.0**trial, LONGEST_PAUSE_SECONDS) for trial in range(9)]
    for pause, about in zip(pauses, expected, strict=True):
        assert about * 0.8 <= pause <= about * 1.2


def test_a_trial_that_is_given_up_lets_another_try(circuit: Circuit, clock: Clock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()
    circuit.abandoned()

    assert circuit.admit() is None


def test_an_answer_that_comes_late_closes_it_too(circuit: Circuit) -> None:
    _open(circuit)
    circuit.succeeded()

    assert circuit.admit() is None
