"""The import of a file: rows are read, sent in chunks, and reported, in the order of the file."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
"""The same before its first answer: no answer at all is more likely a wrong setting."""

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


@dataclass(slots=True)
class _Entry:
    """A row of a chunk, its cells by field, and its outcome once it has one."""

    row: AnyRow
    cells: Mapping[str, object]
    outcome: RowOutcome | None = None


@dataclass
class Import:
    """An import, which the monitor watches and may stop."""

    columns: ContactColumns
    destination: Destination
    advertisers: AdvertiserCells
    monitor: Monitor
    patience_seconds: int = field(default=MAX_OUTAGE_SECONDS_AT_THE_START, init=False)

    async def run(self, rows: Iterator[AnyRow]) -> None:
        """Import all rows. While some are in flight, the next ones are read.

        Raises:
            ContactFileError: the file cannot be read on.
            ImportStoppedError: the import cannot continue. Rows with an outcome are reported.
        """
        # A pipe may have no rows yet, and a signal is handled meanwhile.
        chunk = await asyncio.to_thread(self._read, rows)
        while chunk and not self.monitor.is_stopping:
            settling = asyncio.create_task(self._settle(chunk))
            try:
                following = await asyncio.to_thread(self._read, rows)
            finally:
                # Its rows may be created already, so they are reported whatever the next ones are.
                try:
                    await settling
                finally:
                    self._report(chunk)
            chunk = following

    def _read(self, rows: Iterator[AnyRow]) -> Sequence[_Entry]:
        """Return the entries of the next chunk. A row that cannot be read has its outcome."""
        return [self._entry(row) for row in islice(rows, self.destination.chunk_size)]

    def _entry(self, row: AnyRow) -> _Entry:
        cells = row if isinstance(row, UnreadableRow) else self.columns.contact_fields(row)
        if isinstance(cells, UnreadableRow):
            return _Entry(row, {}, RowOutcome(Outcome.INVALID, message=cells.message))
        return _Entry(row, cells)

    async def _settle(self, chunk: Sequence[_Entry]) -> None:
        """Send the rows of a chunk until all have an outcome, or the import is stopped."""
        waited = delay = 0
        while (unsettled := _unsettled(chunk)) and not self.monitor.is_stopping:
            try:
                postponed = await self._attempt(unsettled)
            except SourceUnavailable as error:
                postponed = [Postponed(error.retry_after_seconds, error.reason)]
            if not postponed:
                break
            if len(_unsettled(chunk)) < len(unsettled):
                self.patience_seconds = MAX_OUTAGE_SECONDS
                waited = delay = 0
            name, seconds = self.destination.name, max(each.seconds for each in postponed)
            if any(each.reason is None for each in postponed):
                self.patience_seconds = MAX_OUTAGE_SECONDS
                await self.monitor.wait(seconds, f"{name}'s hourly limit is reached")
            else:
                reason = f"{name} does not answer: {postponed[0].reason}".rstrip(".")
                if waited >= self.patience_seconds:
                    for entry in _unsettled(chunk):
                        message = f"{name} does not answer."
                        entry.outcome = RowOutcome(Outcome.FAILED, message=message)
                    raise ImportStoppedError(f"{reason}.")
                delay = min(2 * delay or 1, _MAX_DELAY_SECONDS)
                seconds = max(seconds, delay)
                waited += seconds
                await self.monitor.wait(seconds, reason)
        self.patience_seconds = MAX_OUTAGE_SECONDS

    async def _attempt(self, entries: Sequence[_Entry]) -> Sequence[Postponed]:
        """Send rows without an outcome; return why some of them stay without one."""
        sent: list[_Entry] = []
        rows: list[Submitted] = []
        has_names = ADVERTISER in self.columns.fields
        for entry in entries:
            cells = entry.cells
            contact: RowOutcome | Postponed | Mapping[str, object] = cells
            if ADVERTISER in cells or (has_names and "advertiser_id" not in cells):
                contact = await self.advertisers.contact_of(cells)
            if isinstance(contact, Postponed):
                return [contact]
            if isinstance(contact, RowOutcome):
                entry.outcome = contact
            else:
                sent.append(entry)
                rows.append(Submitted(contact, cells))
        answers = await self.destination.create(rows) if rows else ()
        for entry, answer in zip(sent, answers, strict=True):
            entry.outcome = answer if isinstance(answer, RowOutcome) else None
        return [answer for answer in answers if isinstance(answer, Postponed)]

    def _report(self, chunk: Sequence[_Entry]) -> None:
        """Report the rows of a chunk. Those without an outcome are left to another import."""
        rows = [(entry.row, entry.outcome) for entry in chunk if entry.outcome is not None]
        if rows:
            self.monitor.report(rows)


def _unsettled(chunk: Sequence[_Entry]) -> Sequence[_Entry]:
    return [entry for entry in chunk if entry.outcome is None]
