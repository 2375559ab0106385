"""Single records: many to a statement, and to each caller what is there when it is asked for."""

import asyncio
import threading
from collections.abc import Collection, Mapping

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import advertisers, sqlite
from contact_gateway.store.batched_reads import MAX_BATCH, BatchedReader
from contact_gateway.store.sqlite import Database

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 10
TERN = Advertiser(id=7, name="Tern", network_name=HIENERGY_NETWORK, hienergy_id=7)


class Reading:
    """Reads advertisers, and notes for which ids; may be held, and may fail once."""

    def __init__(self) -> None:
        self.batches: list[set[int]] = []
        self.fault: Exception | None = None
        self._has_read = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def __call__(self, connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
        self.batches.append(set(ids))
        found = advertisers.by_id(connection, ids)
        self._has_read.set()
        assert self._may_go_on.wait(WITHIN_SECONDS)
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        return found

    def hold(self) -> None:
        """Hold what has been read from now on."""
        self._may_go_on.clear()

    async def wait_until_held(self) -> None:
        assert await asyncio.to_thread(self._has_read.wait, WITHIN_SECONDS)

    def go_on(self) -> None:
        self._may_go_on.set()


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def reader(database: Database, reading: Reading) -> BatchedReader[int, Advertiser]:
    return BatchedReader(database, reading)


async def _asked(
    reader: BatchedReader[int, Advertiser], *ids: int
) -> list[asyncio.Task[Advertiser | None]]:
    """Let a caller for each id ask, all at one moment."""
    callers = [asyncio.create_task(reader.get(advertiser_id)) for advertiser_id in ids]
    await checkpoint()
    return callers


def _ids(found: Collection[Advertiser | None]) -> list[int | None]:
    return [None if advertiser is None else advertiser.id for advertiser in found]


async def test_what_is_asked_for_alone_is_read_alone(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    assert _ids([await reader.get(1001), await reader.get(2001)]) == [1001, 2001]
    assert reading.batches == [{1001}, {2001}]


async def test_what_is_asked_for_at_one_moment_shares_a_statement(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    found = await asyncio.gather(*map(reader.get, (1001, 2001, 1001, 1002)))

    assert _ids(found) == [1001, 2001, 1001, 1002]
    assert reading.batches == [{1001, 1002, 2001}]


async def test_a_statement_is_for_so_many_records_at_the_most(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    """SQLite takes no more than some thousand parameters."""
    found = await reader.get_all(range(1001, 1001 + MAX_BATCH + 1))

    assert found.keys() == {1001, 1002}
    assert [len(batch) for batch in reading.batches] == [MAX_BATCH, 1]


async def test_a_record_that_is_not_there_is_nothing(
    reader: BatchedReader[int, Advertiser],
) -> None:
    assert _ids(await asyncio.gather(*map(reader.get, (404, 1001)))) == [None, 1001]


async def test_what_is_asked_for_during_a_reading_shares_the_next(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.hold()
    callers = await _asked(reader, 1001)
    await reading.wait_until_held()
    callers += await _asked(reader, 1002, 2001)
    reading.go_on()

    assert _ids(await asyncio.gather(*callers)) == [1001, 1002, 2001]
    assert reading.batches == [{1001}, {1002, 2001}]


async def test_who_has_written_reads_it_though_a_reading_was_under_way(
    reader: BatchedReader[int, Advertiser], reading: Reading, database: Database
) -> None:
    reading.hold()
    earlier = await _asked(reader, TERN.id)
    await reading.wait_until_held()
    await database.write(lambda connection: advertisers.upsert(connection, [TERN]))
    later = await _asked(reader, TERN.id)
    reading.go_on()

    assert await asyncio.gather(*earlier, *later) == [None, TERN]


async def test_a_fault_reaches_all_who_wait_and_none_of_those_after_them(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.fault = LookupError("a fault")
    faults = await asyncio.gather(*map(reader.get, (1001, 1001, 404)), return_exceptions=True)

    assert [str(fault) for fault in faults] == ["a fault"] * 3
    assert _ids([await reader.get(1001)]) == [1001]


async def test_a_fault_does_not_reach_those_who_asked_during_the_reading(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.fault = LookupError("a fault")
    reading.hold()
    (earlier,) = await _asked(reader, 1001)
    await reading.wait_until_held()
    (later,) = await _asked(reader, 1002)
    reading.go_on()

    with pytest.raises(LookupError):
        await earlier
    assert _ids([await later]) == [1002]


async def test_a_store_that_does_not_answer_says_so_to_all_who_wait(
    unreachable_database: Database, reading: Reading
) -> None:
    reader = BatchedReader(unreachable_database, reading)

    for _ in range(2):
        told = await asyncio.gather(*map(reader.get, (1001, 1001, 1002)), return_exceptions=True)

        assert [type(error) for error in told] == [SourceUnavailable] * 3
    assert reading.batches == []


async def test_those_behind_a_reading_that_hangs_are_told_with_it(
    reader: BatchedReader[int, Advertiser], reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "ANSWER_TIMEOUT_SECONDS", 0.05)
    reading.hold()
    asking = await _asked(reader, 1001)
    await reading.wait_until_held()
    asking += await _asked(reader, 1002)

    told = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(error) for error in told] == [SourceUnavailable] * 2
    assert reading.batches == [{1001}]
    reading.go_on()


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_a_caller_who_goes_away_disturbs_nobody(
    reader: BatchedReader[int, Advertiser], reading: Reading, gone: int
) -> None:
    ids = [1001, 1001, 1002]
    reading.hold()
    callers = await _asked(reader, *ids)
    await reading.wait_until_held()
    leaving = callers.pop(gone)
    del ids[gone]
    leaving.cancel()
    await asyncio.wait({leaving})
    reading.go_on()

    assert leaving.cancelled()
    assert _ids(await asyncio.wait_for(asyncio.gather(*callers), WITHIN_SECONDS)) == ids
    assert _ids([await reader.get(2001)]) == [2001]


async def test_a_fault_after_its_caller_went_away_harms_nobody(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.fault = LookupError("a fault")
    leaving, staying = await _asked(reader, 1001, 1001)
    leaving.cancel()

    with pytest.raises(LookupError):
        await staying
    assert _ids([await reader.get(1001)]) == [1001]


async def test_what_nobody_waits_for_any_more_is_no_hindrance_to_those_who_come(
    reader: BatchedReader[int, Advertiser], reading: Reading
) -> None:
    reading.hold()
    (leaving,) = await _asked(reader, 1001)
    await reading.wait_until_held()
    leaving.cancel()
    (coming,) = await _asked(reader, 1002)
    reading.go_on()

    assert _ids([await coming]) == [1002]
