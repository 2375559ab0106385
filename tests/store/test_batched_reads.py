"""Batched reads: lookups share a statement, and never return a record read before the call."""

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping

import pytest
import structlog
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import advertisers
from contact_gateway.store.batched_reads import MAX_BATCH_SIZE, BatchedReader
from contact_gateway.store.database import ANSWER_TIMEOUT_SECONDS, Database
from support.clock import ManualClock

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60
TERN = Advertiser(id=7, name="Tern", network_name=HIENERGY_NETWORK, hienergy_id=7)


class Reading:
    """Reads advertisers and records the ids of each batch; can be paused, and can fail once."""

    def __init__(self) -> None:
        self.batches: list[set[int]] = []
        self.error: Exception | None = None
        self._has_read = threading.Event()
        self._may_return = threading.Event()
        self._may_return.set()

    def __call__(self, connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
        self.batches.append(set(ids))
        found = advertisers.by_id(connection, ids)
        self._has_read.set()
        assert self._may_return.wait(WITHIN_SECONDS)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return found

    def pause(self) -> None:
        """Pause each read before it returns."""
        self._may_return.clear()

    async def wait_until_paused(self) -> None:
        assert await asyncio.to_thread(self._has_read.wait, WITHIN_SECONDS)

    def resume(self) -> None:
        self._may_return.set()


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def reader(database: Database, reading: Reading) -> BatchedReader[int, Advertiser]:
    return BatchedReader(database, reading)


async def _look_up(
    reader: BatchedReader[int, Advertiser], *ids: int
) -> list[asyncio.Task[Advertiser | None]]:
    """Start a lookup of each id, all in one turn of the event loop."""
    callers = [asyncio.create_task(reader.get(advertiser_id)) for advertiser_id in ids]
    await checkpoint()
    return callers


def _ids(found: Collection[Advertiser | None]) -> list[int | None]:
    return [None if advertiser is None else advertiser.id for advertiser in found]


async def test_a_lone_lookup_is_read_alone(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    assert _ids([await reader.get(1001), await reader.get(2001)]) == [1001, 2001]
    assert reading.batches == [{1001}, {2001}]


async def test_concurrent_lookups_share_a_statement(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    found = await asyncio.gather(*map(reader.get, (1001, 2001, 1001, 1002)))

    assert _ids(found) == [1001, 2001, 1001, 1002]
    assert reading.batches == [{1001, 1002, 2001}]


async def test_a_statement_reads_at_most_a_full_batch(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    """SQLite limits the number of parameters."""
    found = await reader.get_all(range(1001, 1001 + MAX_BATCH_SIZE + 1))

    assert found.keys() == {1001, 1002}
    assert [len(batch) for batch in reading.batches] == [MAX_BATCH_SIZE, 1]


async def test_a_missing_record_is_none(
    reader: BatchedReader[int, Advertiser],
) -> None:
    assert _ids(await asyncio.gather(*map(reader.get, (404, 1001)))) == [None, 1001]


async def test_lookups_queued_during_a_read_share_the_next(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.pause()
    callers = await _look_up(reader, 1001)
    await reading.wait_until_paused()
    callers += await _look_up(reader, 1002, 2001)
    reading.resume()

    assert _ids(await asyncio.gather(*callers)) == [1001, 1002, 2001]
    assert reading.batches == [{1001}, {1002, 2001}]


async def test_a_lookup_after_a_write_does_not_join_an_earlier_read_in_flight(
    reader: BatchedReader[int, Advertiser], reading: Reading, database: Database
) -> None:
    reading.pause()
    earlier = await _look_up(reader, TERN.id)
    await reading.wait_until_paused()
    await database.write(lambda connection: advertisers.upsert(connection, [TERN]))
    later = await _look_up(reader, TERN.id)
    reading.resume()

    assert await asyncio.gather(*earlier, *later) == [None, TERN]


async def test_log_lines_do_not_carry_the_first_callers_request_id(
    reader: BatchedReader[int, Advertiser], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = []
    look_up = database.look_up

    async def recorded(work: Callable[[Connection], object]) -> object:
        contexts.append(structlog.contextvars.get_contextvars())
        return await look_up(work)

    monkeypatch.setattr(database, "look_up", recorded)
    with structlog.contextvars.bound_contextvars(request_id="first"):
        await reader.get(1001)

    assert contexts == [{}]


async def test_an_error_is_raised_at_every_caller_of_its_batch_and_at_no_later_one(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.error = LookupError("an error")
    errors = await asyncio.gather(*map(reader.get, (1001, 1001, 404)), return_exceptions=True)

    assert [str(error) for error in errors] == ["an error"] * 3
    assert _ids([await reader.get(1001)]) == [1001]


async def test_an_error_is_not_raised_at_callers_queued_during_the_read(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.error = LookupError("an error")
    reading.pause()
    (earlier,) = await _look_up(reader, 1001)
    await reading.wait_until_paused()
    (later,) = await _look_up(reader, 1002)
    reading.resume()

    with pytest.raises(LookupError):
        await earlier
    assert _ids([await later]) == [1002]


async def test_an_unavailable_database_is_reported_to_every_caller(
    unreachable_database: Database, reading: Reading
) -> None:
    reader = BatchedReader(unreachable_database, reading)

    for _ in range(2):
        errors = await asyncio.gather(*map(reader.get, (1001, 1001, 1002)), return_exceptions=True)

        assert [type(error) for error in errors] == [SourceUnavailable] * 3
    assert reading.batches == []


async def test_callers_queued_behind_a_read_that_times_out_fail_with_it(
    reader: BatchedReader[int, Advertiser], reading: Reading, stopped_clock: ManualClock
) -> None:
    reading.pause()
    callers = await _look_up(reader, 1001)
    await reading.wait_until_paused()
    callers += await _look_up(reader, 1002)

    await stopped_clock.advance(ANSWER_TIMEOUT_SECONDS)
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(error) for error in errors] == [SourceUnavailable] * 2
    reading.resume()
    assert _ids([await reader.get(2001)]) == [2001]
    assert reading.batches == [{1001}, {2001}]


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_cancelled_caller_does_not_affect_the_others(
    reader: BatchedReader[int, Advertiser], reading: Reading, position: int
) -> None:
    ids = [1001, 1001, 1002]
    reading.pause()
    callers = await _look_up(reader, *ids)
    await reading.wait_until_paused()
    cancelled = callers.pop(position)
    del ids[position]
    cancelled.cancel()
    await asyncio.wait({cancelled})
    reading.resume()

    assert cancelled.cancelled()
    assert _ids(await asyncio.wait_for(asyncio.gather(*callers), WITHIN_SECONDS)) == ids
    assert _ids([await reader.get(2001)]) == [2001]


async def test_an_error_after_its_caller_was_cancelled_is_raised_at_the_others(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.error = LookupError("an error")
    cancelled, waiting = await _look_up(reader, 1001, 1001)
    cancelled.cancel()

    with pytest.raises(LookupError):
        await waiting
    assert _ids([await reader.get(1001)]) == [1001]


async def test_a_cancelled_lookup_does_not_block_later_ones(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.pause()
    (cancelled,) = await _look_up(reader, 1001)
    await reading.wait_until_paused()
    cancelled.cancel()
    (later,) = await _look_up(reader, 1002)
    reading.resume()

    assert _ids([await later]) == [1002]
