"""The circuit breaker opens after failures in a row, and then admits one call at a time."""

from collections.abc import Callable

import pytest

from contact_gateway.upstream.circuit import (
    FAILURES_THAT_OPEN,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Circuit,
    CircuitOpenError,
)
from support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def circuit(clock: ManualClock) -> Circuit:
    return Circuit(clock)


def _fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.failed(circuit.admit())


def _refused(circuit: Circuit) -> float:
    """Return the seconds after which the circuit will admit a call."""
    with pytest.raises(CircuitOpenError) as refused:
        circuit.admit()
    return refused.value.seconds


def _open(circuit: Circuit) -> float:
    _fail(circuit, FAILURES_THAT_OPEN)
    return _refused(circuit)


def test_a_few_failures_leave_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURES_THAT_OPEN - 1)

    circuit.admit()


def test_failures_in_a_row_open_it_for_a_second(circuit: Circuit) -> None:
    seconds = _open(circuit)

    assert FIRST_PAUSE_SECONDS * 0.8 <= seconds <= FIRST_PAUSE_SECONDS * 1.2


def test_a_success_between_failures_keeps_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURES_THAT_OPEN - 1)
    circuit.succeeded()
    _fail(circuit, FAILURES_THAT_OPEN - 1)

    circuit.admit()


def test_after_the_pause_one_call_is_admitted(circuit: Circuit, clock: ManualClock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()

    assert [_refused(circuit) for _ in range(100)] == [1.0] * 100


def test_a_successful_trial_closes_it(circuit: Circuit, clock: ManualClock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()
    circuit.succeeded()

    for _ in range(100):
        circuit.admit()


def test_each_failed_trial_doubles_the_pause_up_to_the_longest(
    circuit: Circuit, clock: ManualClock
) -> None:
    pauses = [_open(circuit)]
    for _ in range(8):
        clock.seconds += pauses[-1]
        _fail(circuit, 1)
        pauses.append(_refused(circuit))

    expected = [min(2.0**trial, LONGEST_PAUSE_SECONDS) for trial in range(9)]
    for pause, about in zip(pauses, expected, strict=True):
        assert about * 0.8 <= pause <= about * 1.2


def test_after_a_cancelled_trial_another_call_is_admitted(
    circuit: Circuit, clock: ManualClock
) -> None:
    clock.seconds += _open(circuit)
    circuit.abandoned(circuit.admit())

    circuit.admit()


def test_a_late_success_closes_it(circuit: Circuit) -> None:
    _open(circuit)
    circuit.succeeded()

    circuit.admit()


@pytest.mark.parametrize("end", [Circuit.failed, Circuit.abandoned], ids=["failed", "given up"])
def test_a_call_from_before_it_opened_does_not_end_the_trial(
    circuit: Circuit, clock: ManualClock, end: Callable[[Circuit, int], None]
) -> None:
    early = circuit.admit()
    clock.seconds += _open(circuit)
    circuit.admit()
    end(circuit, early)

    assert _refused(circuit) == 1.0
