"""The loop of an import, over a destination that a test scripts."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.contact_files.advertiser_cells import AdvertiserCells
from contact_gateway.contact_files.columns import ContactColumns
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
)
from contact_gateway.contact_files.importing import (
    MAX_OUTAGE_SECONDS,
    MAX_OUTAGE_SECONDS_AT_THE_START,
    AnyRow,
    Import,
    ReportedRow,
)
from contact_gateway.contact_files.table import read_table
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.outcomes import RateLimited, ReadRefusal
from contact_gateway.contacts.source import SourceUnavailable
from support.fake_source import FakeSource

pytestmark = pytest.mark.anyio

Answers = Sequence[RowOutcome | Postponed]
LIMITED = Postponed(1200)
UNAVAILABLE = Postponed(1, "it is down")


def created(number: int) -> RowOutcome:
    return RowOutcome(Outcome.CREATED, number)


@dataclass
class Scripted:
    """A destination that takes two rows at once, and gives one answer after another."""

    script: list[Callable[[Sequence[Submitted]], Answers]]
    sent: list[list[object]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    name = "The destination"
    chunk_size = 2

    async def create(self, rows: Sequence[Submitted]) -> Answers:
        self.sent.append([row.contact["email"] for row in rows])
        self.keys += [row.idempotency_key() for row in rows]
        answer = self.script.pop(0) if self.script else all_created
        return answer(rows)


def all_created(rows: Sequence[Submitted]) -> Answers:
    return [created(int(str(row.contact["email"])[0])) for row in rows]


def down(_: Sequence[Submitted]) -> Answers:
    raise SourceUnavailable("it is down", 7)


@dataclass
class Recorder:
    """A monitor that records all, and whose time passes at once."""

    rows: list[tuple[int, RowOutcome]] = field(default_factory=list)
    waits: list[tuple[int, str]] = field(default_factory=list)
    stops_after_a_wait: bool = False
    is_stopping: bool = False

    def report(self, rows: Sequence[ReportedRow]) -> None:
        assert rows
        self.rows += [(row.line, outcome) for row, outcome in rows]

    async def wait(self, seconds: int, reason: str) -> None:
        self.waits.append((seconds, reason))
        self.is_stopping = self.stops_after_a_wait


def imported(destination: Scripted, monitor: Recorder, rows: int = 3) -> Awaitable[None]:
    text = "advertiser_id,email\n" + "".join(f"1001,{n}@example.com\n" for n in range(1, rows + 1))
    table = read_table(BytesIO(text.encode()))
    cells = AdvertiserCells(FakeSource(), accepts_names=False)
    columns = ContactColumns(table, {})
    return Import(columns, destination, cells, monitor).run(table.rows)


async def test_rows_are_sent_in_chunks_and_reported_in_their_order() -> None:
    destination, monitor = Scripted([]), Recorder()

    await imported(destination, monitor)

    assert destination.sent == [["1@example.com", "2@example.com"], ["3@example.com"]]
    assert monitor.rows == [(2, created(1)), (3, created(2)), (4, created(3))]


async def test_a_limited_row_is_sent_again_with_its_key_after_the_wait() -> None:
    destination = Scripted([lambda _: [created(1), LIMITED]])
    monitor = Recorder()

    await imported(destination, monitor)

    assert monitor.waits == [(1200, "The destination's hourly limit is reached")]
    assert destination.sent[1] == ["2@example.com"]
    assert destination.keys[1] == destination.keys[2]
    assert monitor.rows == [(2, created(1)), (3, created(2)), (4, created(3))]


async def test_an_import_that_stops_before_the_first_outcome_reports_no_rows() -> None:
    monitor = Recorder(stops_after_a_wait=True)

    await imported(Scripted([down]), monitor)

    assert (len(monitor.waits), monitor.rows) == (1, [])


async def test_the_wait_for_a_limit_has_no_end() -> None:
    destination = Scripted([lambda rows: [LIMITED] * len(rows)] * 50)
    monitor = Recorder()

    await imported(destination, monitor)

    assert len(monitor.waits) == 50
    assert len(monitor.rows) == 3


async def test_a_short_outage_delays_the_import() -> None:
    destination = Scripted([all_created, down, down, down, down])
    monitor = Recorder()

    await imported(destination, monitor)

    assert [seconds for seconds, _ in monitor.waits] == [7, 7, 7, 8]
    assert len(monitor.rows) == 3


async def test_a_long_outage_ends_the_import() -> None:
    destination = Scripted([all_created, *[down] * 100])
    monitor = Recorder()

    with pytest.raises(ImportStoppedError, match=r"does not answer: it is down\."):
        await imported(destination, monitor, rows=6)

    assert sum(seconds for seconds, _ in monitor.waits) >= MAX_OUTAGE_SECONDS
    assert [(line, each.outcome) for line, each in monitor.rows] == [
        (2, Outcome.CREATED),
        (3, Outcome.CREATED),
        (4, Outcome.FAILED),
        (5, Outcome.FAILED),
    ]


def half_created(rows: Sequence[Submitted]) -> Answers:
    return [*all_created(rows[:1]), *[UNAVAILABLE] * (len(rows) - 1)]


async def test_progress_during_an_outage_begins_the_wait_anew() -> None:
    destination = Scripted([all_created, *[down] * 9, half_created, *[down] * 9])
    monitor = Recorder()

    await imported(destination, monitor, rows=4)

    assert sum(seconds for seconds, _ in monitor.waits) > MAX_OUTAGE_SECONDS + 100
    assert [each for _, each in monitor.rows] == [created(n) for n in range(1, 5)]


async def test_a_destination_that_never_answers_is_not_waited_for_long() -> None:
    destination, monitor = Scripted([down] * 100), Recorder()

    with pytest.raises(ImportStoppedError, match="it is down"):
        await imported(destination, monitor)

    waited = sum(seconds for seconds, _ in monitor.waits)
    assert MAX_OUTAGE_SECONDS_AT_THE_START <= waited < MAX_OUTAGE_SECONDS // 10


async def test_what_has_an_outcome_is_reported_if_the_destination_refuses_the_rest() -> None:
    def refuse(_: Sequence[Submitted]) -> Answers:
        raise ImportStoppedError("The key is revoked.")

    destination = Scripted([lambda _: [created(1), LIMITED], refuse])
    monitor = Recorder()

    with pytest.raises(ImportStoppedError, match=r"The key is revoked\."):
        await imported(destination, monitor)

    assert monitor.rows == [(2, created(1))]
    assert len(destination.sent) == 2


async def test_a_stop_reports_the_rows_in_flight_and_sends_no_others() -> None:
    monitor = Recorder()

    def stop(rows: Sequence[Submitted]) -> Answers:
        monitor.is_stopping = True
        return all_created(rows)

    await imported(Scripted([stop]), monitor)

    assert monitor.rows == [(2, created(1)), (3, created(2))]


async def test_a_stop_during_a_wait_leaves_the_limited_rows_out() -> None:
    destination = Scripted([lambda _: [created(1), LIMITED]])
    monitor = Recorder(stops_after_a_wait=True)

    await imported(destination, monitor)

    assert monitor.rows == [(2, created(1))]
    assert len(destination.sent) == 1


async def test_a_row_has_a_key_of_its_cells_alone() -> None:
    first, second = Scripted([]), Scripted([])

    await imported(first, Recorder(), rows=3)
    await imported(second, Recorder(), rows=5)

    assert second.keys[:3] == first.keys
    assert len(set(second.keys)) == 5


async def test_the_next_rows_are_read_while_some_are_in_flight() -> None:
    lines: list[str] = []
    text = b"advertiser_id,email\n" + b"".join(b"1001,%d@example.com\n" % n for n in range(1, 6))
    table = read_table(BytesIO(text))

    def rows() -> Iterator[AnyRow]:
        for row in table.rows:
            lines.append(f"read {row.line}")
            yield row

    class Waiting(Scripted):
        async def create(self, rows: Sequence[Submitted]) -> Answers:
            while rows[0].contact["email"] == "1@example.com" and len(lines) < 4:
                await checkpoint()
            return await super().create(rows)

    cells = AdvertiserCells(FakeSource(), accepts_names=False)
    monitor = Recorder()
    await Import(ContactColumns(table, {}), Waiting([]), cells, monitor).run(rows())

    assert len(monitor.rows) == 5


class LimitedOnce(FakeSource):
    """A catalogue whose first lookup is over the rate limit."""

    is_limited = True

    async def advertiser_by_slug(self, slug: str) -> Advertiser | ReadRefusal | None:
        if self.is_limited:
            self.is_limited = False
            return RateLimited(40)
        return await super().advertiser_by_slug(slug)


async def test_a_limited_lookup_of_an_advertiser_is_waited_for() -> None:
    table = read_table(BytesIO(b"advertiser,email\nnorthwind,1@example.com\n"))
    cells = AdvertiserCells(LimitedOnce(), accepts_names=False)
    monitor = Recorder()

    await Import(ContactColumns(table, {}), Scripted([]), cells, monitor).run(table.rows)

    assert [seconds for seconds, _ in monitor.waits] == [40]
    assert monitor.rows == [(2, created(1))]
