"""Concurrent equal calls share one load, even if the first of them is cancelled."""

import asyncio

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.faces.graphql.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Load:
    """A load that ends when the test says so, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, _: int) -> str:
        self.calls += 1
        return await asyncio.shield(self._result)

    def succeed(self, result: str) -> None:
        self._result.set_result(result)

    def fail(self, error: Exception) -> None:
        self._result.set_exception(error)


@pytest.fixture
async def load() -> Load:
    return Load()


async def _start(flight: SingleFlight, load: Load, number: int) -> list[asyncio.Task[str]]:
    """Start so many equal calls."""
    calls = [asyncio.create_task(flight.get(load, 1)) for _ in range(number)]
    for _ in range(3):
        await checkpoint()
    return calls


async def test_concurrent_calls_share_one_load(load: Load) -> None:
    calls = await _start(SingleFlight(), load, 3)
    load.succeed("yes")

    assert await asyncio.gather(*calls) == ["yes"] * 3
    assert load.calls == 1


async def test_a_later_call_gets_the_same_result(load: Load) -> None:
    flight = SingleFlight()
    load.succeed("yes")

    assert [await flight.get(load, 1), await flight.get(load, 1)] == ["yes", "yes"]
    assert load.calls == 1


async def test_each_function_and_each_argument_has_its_own_result() -> None:
    flight = SingleFlight()

    async def same(number: int) -> int:
        return number

    async def double(number: int) -> int:
        return 2 * number

    results = [await flight.get(load, number) for load in (same, double) for number in (1, 2)]
    assert results == [1, 2, 2, 4]


async def test_every_call_raises_the_error_of_the_load(load: Load) -> None:
    flight = SingleFlight()
    calls = await _start(flight, load, 2)
    load.fail(LookupError("no"))
    calls += await _start(flight, load, 1)

    errors = await asyncio.gather(*calls, return_exceptions=True)

    assert [str(error) for error in errors] == ["no"] * 3
    assert load.calls == 1


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_call_does_not_cancel_the_others(load: Load, cancelled: int) -> None:
    calls = await _start(SingleFlight(), load, 3)
    call = calls.pop(cancelled)
    call.cancel()
    await asyncio.wait({call})
    load.succeed("yes")

    assert call.cancelled()
    assert await asyncio.gather(*calls) == ["yes", "yes"]
