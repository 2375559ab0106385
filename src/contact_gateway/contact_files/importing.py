"""The import of a file: rows are read, sent in chunks, and reported, in the order of the file."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol, TypeAlias

from contact_gateway.contact_files.advertiser_cells import AdvertiserCells
from contact_gateway.contact_files.columns import ADVERTISER, ContactColumns
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
)
from contact_gateway.contact_files.rows import Row, UnreadableRow
from contact_gateway.contacts.source import SourceUnavailable

MAX_OUTAGE_SECONDS: Final = 300
"""How long an import waits for a destination that does not answer."""

MAX_OUTAGE_SECONDS_AT_THE_START: Final = 15
"""The same until the first answer: what never answers is more likely a wrong setting."""

_MAX_DELAY_SECONDS: Final = 60

AnyRow: TypeAlias = Row | UnreadableRow
ReportedRow: TypeAlias = tuple[AnyRow, RowOutcome]


class Destination(Protocol):
    """Where the contacts of an import are created."""

    @property
    def name(self) -> str:
        """Its name in sentences."""
        ...

    @property
    def chunk_size(self) -> int:
        """How many rows it takes at once, which may become fewer."""
        ...

    async def create(self, rows: Sequence[Submitted], /) -> Sequence[RowOutcome | Postponed]:
        """Create the contacts of rows, in order; return the outcome of each.

        Raises:
            ImportStoppedError: no row can be created.
            SourceUnavailable: the destination does not answer. The rows may be sent again.
        """
        ...


class Chunk:
    """Rows that are sent together, with the outcomes of those that have one, by their place."""

    def __init__(self, rows: Sequence[AnyRow], columns: ContactColumns) -> None:
        self.rows: Final = rows
        self.outcomes: Final[dict[int, RowOutcome]] = {}
        self.open: Final[dict[int, Mapping[str, object]]] = {}
        """The cells of the rows without an outcome."""
        for place, row in enumerate(rows):
            fields = row if isinstance(row, UnreadableRow) else columns.contact_fields(row)
            if isinstance(fields, UnreadableRow):
                self.outcomes[place] = RowOutcome(Outcome.INVALID, message=fields.message)
            else:
                self.open[place] = fields

    def settle(self, places: Sequence[int], answers: Sequence[RowOutcome | Postponed]) -> None:
        """Record the outcomes of the rows at some places. Postponed ones stay open."""
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, RowOutcome):
                self.outcomes[place] = answer
                del self.open[place]


class Monitor(Protocol):
    """Watches an import for the operator, who may stop it."""

    @property
    def is_stopping(self) -> bool:
        """Whether to stop after the rows that are in flight."""
        ...

    def report(self, rows: Sequence[ReportedRow], /) -> None:
        """Take the rows of a chunk that have an outcome, in the order of the file."""
        ...

    async def wait(self, seconds: int, reason: str, /) -> None:
        """Wait for a reason that is shown, or until the import is to stop."""
        ...


class Import:
    """An import, which the monitor watches and may stop."""

    def __init__(
        self,
        columns: ContactColumns,
        destination: Destination,
        advertisers: AdvertiserCells,
        monitor: Monitor,
    ) -> None:
        self._columns: Final = columns
        self._destination: Final = destination
        self._advertisers: Final = advertisers
        self._monitor: Final = monitor
        self._names_advertisers: Final = ADVERTISER in columns.fields
        self._has_answered = False

    async def run(self, rows: Iterator[AnyRow]) -> None:
        """Import all rows. While some are in flight, the next ones are read.

        Raises:
            ContactFileError: the file cannot be read on.
            ImportStoppedError: the import could not go on. What has an outcome is reported.
        """
        # A pipe may have no rows yet, and a signal is handled meanwhile.
        chunk = await asyncio.to_thread(self._read, rows)
        while chunk.rows and not self._monitor.is_stopping:
            settling = asyncio.create_task(self._settle(chunk))
            try:
                following = await asyncio.to_thread(self._read, rows)
            finally:
                # Its rows may be created already, so they are reported whatever the next ones are.
                try:
                    await settling
                finally:
                    self._record(chunk)
            chunk = following

    def _read(self, rows: Iterator[AnyRow]) -> Chunk:
        return Chunk(list(islice(rows, self._destination.chunk_size)), self._columns)

    async def _settle(self, chunk: Chunk) -> None:
        """Send the rows of a chunk until all have an outcome, or the import is stopped."""
        waited = delay = 0
        while chunk.open and not self._monitor.is_stopping:
            before = len(chunk.open)
            try:
                postponed = await self._attempt(chunk)
            except SourceUnavailable as error:
                postponed = [Postponed(error.retry_after_seconds, error.reason)]
            if not postponed:
                break
            if len(chunk.open) < before:
                self._has_answered = True
                waited = delay = 0
            name, seconds = self._destination.name, max(each.seconds for each in postponed)
            if any(each.reason is None for each in postponed):
                self._has_answered = True
                await self._monitor.wait(seconds, f"{name}'s hourly limit is reached")
            else:
                reason = f"{name} does not answer: {postponed[0].reason}".rstrip(".")
                if waited >= self._patience():
                    raise self._given_up(chunk, reason)
                delay = min(2 * delay or 1, _MAX_DELAY_SECONDS)
                seconds = max(seconds, delay)
                waited += seconds
                await self._monitor.wait(seconds, reason)
        self._has_answered = True

    async def _attempt(self, chunk: Chunk) -> Sequence[Postponed]:
        """Send the open rows of a chunk; return why some of them stay open."""
        rows: list[Submitted] = []
        places: list[int] = []
        for place, cells in list(chunk.open.items()):
            contact: RowOutcome | Postponed | Mapping[str, object] = cells
            if ADVERTISER in cells or (self._names_advertisers and "advertiser_id" not in cells):
                contact = await self._advertisers.contact_of(cells)
            if isinstance(contact, Postponed):
                return [contact]
            if isinstance(contact, RowOutcome):
                chunk.settle((place,), (contact,))
            else:
                places.append(place)
                rows.append(Submitted(contact, cells))
        answers = await self._destination.create(rows) if rows else ()
        chunk.settle(places, answers)
        return [answer for answer in answers if isinstance(answer, Postponed)]

    def _patience(self) -> int:
        return MAX_OUTAGE_SECONDS if self._has_answered else MAX_OUTAGE_SECONDS_AT_THE_START

    def _given_up(self, chunk: Chunk, reason: str) -> ImportStoppedError:
        failed = RowOutcome(Outcome.FAILED, message=f"{self._destination.name} does not answer.")
        places = list(chunk.open)
        chunk.settle(places, [failed] * len(places))
        return ImportStoppedError(f"{reason}.")

    def _record(self, chunk: Chunk) -> None:
        """Report the rows of a chunk. Those without an outcome are left to another import."""
        rows = [
            (row, chunk.outcomes[place])
            for place, row in enumerate(chunk.rows)
            if place in chunk.outcomes
        ]
        if rows:
            self._monitor.report(rows)
