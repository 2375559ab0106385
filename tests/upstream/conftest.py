"""The clock of tests in front of an upstream API."""

from functools import partial

import pytest

from contact_gateway.upstream import client
from contact_gateway.upstream.circuit import Circuit
from support.clock import ManualClock


@pytest.fixture
def stopped_clock(stopped_clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Stop the clock of the circuit breaker as well."""
    monkeypatch.setattr(client, "Circuit", partial(Circuit, stopped_clock))
    return stopped_clock
