"""Concurrent calls with one key share one load, even if the first of them is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.faces.graphql.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Load:
    """A load that ends when the test says so, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.calls += 1
        return await asyncio.shield(self._result)

    def succeed(self, result: str) -> None:
        self._result.set_result(result)

    def fail(self, error: Exception) -> None:
        self._result.set_exception(error)


@pytest.fixture
async def load() -> Load:
    return Load()


async def _start(flight: SingleFlight[int, str], *loads: Load) -> list[asyncio.Task[str]]:
    """Start a call with the same key for each load."""
    calls = [asyncio.create_task(flight.get(1, load)) for load in loads]
    for _ in range(3):
        await checkpoint()
    return calls


async def test_concurrent_calls_share_one_load(load: Load) -> None:
    calls = await _start(SingleFlight(), load, load, load)
    load.succeed("yes")

    assert await asyncio.gather(*calls) == ["yes"] * 3
    assert load.calls == 1


async def test_a_later_call_gets_the_same_result(load: Load) -> None:
    flight: SingleFlight[int, str] = SingleFlight()
    load.succeed("yes")

    assert [await flight.get(1, load), await flight.get(1, load)] == ["yes", "yes"]
    assert load.calls == 1


async def test_each_key_has_its_own_result() -> None:
    flight: SingleFlight[int, str] = SingleFlight()

    def loading(result: str) -> Callable[[], Awaitable[str]]:
        load = Load()
        load.succeed(result)
        return load

    results = [await flight.get(1, loading("one")), await flight.get(2, loading("two"))]
    assert results == ["one", "two"]


async def test_a_result_that_was_put_is_not_loaded(load: Load) -> None:
    flight: SingleFlight[int, str] = SingleFlight()
    flight.put({1: "yes"})

    assert await flight.get(1, load) == "yes"
    assert load.calls == 0


async def test_every_call_raises_the_error_of_the_load(load: Load) -> None:
    flight: SingleFlight[int, str] = SingleFlight()
    calls = await _start(flight, load, load)
    load.fail(LookupError("no"))
    calls += await _start(flight, load)

    errors = await asyncio.gather(*calls, return_exceptions=True)

    assert [str(error) for error in errors] == ["no"] * 3
    assert load.calls == 1


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_call_does_not_cancel_the_others(load: Load, cancelled: int) -> None:
    calls = await _start(SingleFlight(), load, load, load)
    call = calls.pop(cancelled)
    call.cancel()
    await asyncio.wait({call})
    load.succeed("yes")

    assert call.cancelled()
    assert await asyncio.gather(*calls) == ["yes", "yes"]
