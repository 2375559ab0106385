"""The circuit breaker opens after failures in a row, and then admits one call at a time."""

from collections.abc import Callable

import pytest

from contact_gateway.upstream.circuit import (
    FAILURE_THRESHOLD,
    MAX_BACKOFF_SECONDS,
    MIN_BACKOFF_SECONDS,
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
        circuit.record_failure(circuit.admit())


def _refused(circuit: Circuit) -> float:
    """Return the seconds after which the circuit will admit a call."""
    with pytest.raises(CircuitOpenError) as refused:
        circuit.admit()
    return refused.value.seconds


def _open(circuit: Circuit) -> float:
    _fail(circuit, FAILURE_THRESHOLD)
    return _refused(circuit)


def test_a_few_failures_leave_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURE_THRESHOLD - 1)

    circuit.admit()


def test_failures_in_a_row_open_it_for_a_second(circuit: Circuit) -> None:
    seconds = _open(circuit)

    assert MIN_BACKOFF_SECONDS * 0.8 <= seconds <= MIN_BACKOFF_SECONDS * 1.2


def test_a_success_between_failures_keeps_it_closed(circuit: Circuit) -> None:
    _fail(circuit, FAILURE_THRESHOLD - 1)
    circuit.record_success()
    _fail(circuit, FAILURE_THRESHOLD - 1)

    circuit.admit()


def test_after_the_pause_one_call_is_admitted(circuit: Circuit, clock: ManualClock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()

    assert [_refused(circuit) for _ in range(100)] == [1.0] * 100


def test_a_successful_trial_closes_it(circuit: Circuit, clock: ManualClock) -> None:
    clock.seconds += _open(circuit)
    circuit.admit()
    circuit.record_success()

    for _ in range(100):
        circuit.admit()


def test_each_failed_trial_doubles_the_pause_up_to_the_longest(
    circuit: Circuit, clock: ManualClock
) -> None:
    backoffs = [_open(circuit)]
    for _ in range(8):
        clock.seconds += backoffs[-1]
        _fail(circuit, 1)
        backoffs.append(_refused(circuit))

    expected = [min(2.0**trial, MAX_BACKOFF_SECONDS) for trial in range(9)]
    for backoff, about in zip(backoffs, expected, strict=True):
        assert about * 0.8 <= backoff <= about * 1.2


def test_after_a_cancelled_trial_another_call_is_admitted(
    circuit: Circuit, clock: ManualClock
) -> None:
    clock.seconds += _open(circuit)
    circuit.record_cancellation(circuit.admit())

    circuit.admit()


def test_a_late_success_closes_it(circuit: Circuit) -> None:
    _open(circuit)
    circuit.record_success()

    circuit.admit()


@pytest.mark.parametrize(
    "end", [Circuit.record_failure, Circuit.record_cancellation], ids=["failed", "cancelled"]
)
def test_a_call_from_before_it_opened_does_not_end_the_trial(
    circuit: Circuit, clock: ManualClock, end: Callable[[Circuit, int], None]
) -> None:
    early = circuit.admit()
    clock.seconds += _open(circuit)
    circuit.admit()
    end(circuit, early)

    assert _refused(circuit) == 1.0
