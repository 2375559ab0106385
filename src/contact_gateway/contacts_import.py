"""What `contact-gateway contacts import` does: choose a destination, show progress, stop."""

import asyncio
import hashlib
import io
import os
import secrets
import select
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TextIO

from contact_gateway import output
from contact_gateway.access.principals import Credential
from contact_gateway.app import Truth, hienergy
from contact_gateway.command_line import admin_key, operator_access, with_database
from contact_gateway.contact_files.advertiser_cells import AdvertiserCells
from contact_gateway.contact_files.columns import ContactColumns, listed
from contact_gateway.contact_files.encodings import ReadingFile, read_part
from contact_gateway.contact_files.imported_rows import ImportStoppedError, Outcome, RowOutcome
from contact_gateway.contact_files.importing import (
    AnyRow,
    Destination,
    Import,
    ReportedRow,
)
from contact_gateway.contact_files.report import Report, partial_of, report_to
from contact_gateway.contact_files.resolver import Resolver
from contact_gateway.contact_files.rows import ContactFileError, Row
from contact_gateway.contact_files.table import Format, Table, format_of, read_table
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.source import Advertisers
from contact_gateway.progress import TransferBar, counted, show_wait
from contact_gateway.server.process import tune_garbage_collector
from contact_gateway.settings import Settings
from contact_gateway.store.database import Database
from contact_gateway.store.source import MAX_CREATIONS_PER_TRANSACTION, StoreAccess
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.source import UpstreamReads, UpstreamSource
from contact_gateway.upstream.through import RunningGateway

SOME_REFUSED: Final = 1
FAILED: Final = 2
"""Exit statuses of an import. It is 0 if no row was refused."""

_HIENERGY_CHUNK_SIZE: Final = 50
_MAX_LISTED_ROWS: Final = 10
_CONTINUES: Final = "The same command continues the import."
_STANDARD_INPUT: Final = Path("-")
_PART_SIZE: Final = 2**20
_POLL_SECONDS: Final = 0.1
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ImportOptions(NamedTuple):
    """The options of an import. `chosen` are fields by column."""

    chosen: Mapping[str, str]
    resolves_names: bool
    dry_run: bool
    on_conflict: OnConflict


class SourceFile(NamedTuple):
    """The file of an import.

    Attributes:
        table: its rows.
        import_id: the request id of all its rows in the audit trail: a digest of the content if the
            file can be read twice, else random.
        lines: how many lines it has, or None.
        stopped: is set when the import is to stop, and ends the file if it is a pipe. A read may
            wait for ever, and a thread cannot be stopped.
    """

    table: Table
    import_id: str
    lines: int | None
    stopped: threading.Event


@contextmanager
def opened(file: Path, file_format: Format | None) -> Iterator[SourceFile]:
    """Open a file of contacts, or standard input.

    Raises:
        ContactFileError: it cannot be read, or is no table.
    """
    stopped = threading.Event()
    if file == _STANDARD_INPUT:
        stdin: TextIO | None = sys.stdin
        if stdin is None:
            raise ContactFileError("Standard input is closed.")
        table = read_table(_stoppable(stdin.buffer, stopped), file_format)
        yield SourceFile(table, secrets.token_hex(8), None, stopped)
        return
    try:
        opened_file = file.open("rb")
    except OSError as error:
        raise ContactFileError(f"{file}: {error.strerror}.") from error
    with opened_file as binary:
        digest, lines = _surveyed(binary)
        table = read_table(_stoppable(binary, stopped), file_format or format_of(file.name))
        yield SourceFile(table, digest[:16], lines, stopped)


def _stoppable(file: BinaryIO, stopped: threading.Event) -> BinaryIO:
    """Return a file that ends when it is stopped, if it is a pipe or a terminal."""

    def read(size: int) -> bytes:
        while not stopped.is_set():
            if select.select([file], (), (), _POLL_SECONDS)[0]:
                return os.read(file.fileno(), size)
        return b""

    return file if file.seekable() else io.BufferedReader(ReadingFile(read))


def _surveyed(file: BinaryIO) -> tuple[str, int | None]:
    """Return the SHA-256 and the number of lines of a file; a random id if it is a pipe."""
    if not file.seekable():
        return secrets.token_hex(8), None
    digest, lines = hashlib.sha256(), 0
    while part := read_part(file, _PART_SIZE):
        digest.update(part)
        lines += part.count(b"\n")
    file.seek(0)
    return digest.hexdigest(), lines or None


def run_import(
    settings: Settings,
    source: SourceFile,
    options: ImportOptions,
    report: Path | None,
    through: str | None,
) -> int:
    """Import a file; return the exit status.

    Raises:
        ContactFileError: a column is missing or ambiguous.
    """
    # A collection that scans all modules would take a fifth of the time.
    tune_garbage_collector()
    running = _Running(source, options, report)
    submission = Submission(
        raw=None,
        dry_run=options.dry_run,
        on_conflict=options.on_conflict,
        origin=Origin(Face.IMPORT, source.import_id),
    )
    if through is not None:
        base_url = f"{through.removesuffix('/api/v1')}/api/v1"
        asyncio.run(_through(running, base_url, admin_key("gateway"), options))
    elif settings.upstream_url is None:
        with_database(settings, partial(_into_database, running, submission))
    else:
        credential = admin_key("HiEnergy")
        truth_in = partial(hienergy, url=settings.upstream_url, settings=settings)
        with_database(settings, partial(_into_hienergy, running, submission, credential, truth_in))
    return running.finish()


async def _into_database(running: "_Running", submission: Submission, database: Database) -> None:
    async with operator_access(database) as access:

        async def authenticate(_: Credential) -> StoreAccess:
            return access

        destination = Resolver(
            "The database",
            MAX_CREATIONS_PER_TRANSACTION,
            authenticate,
            Credential.of(""),
            submission,
            uses_keys=False,
        )
        await running.into(destination, access)


async def _into_hienergy(
    running: "_Running",
    submission: Submission,
    credential: Credential,
    truth_in: Callable[[Database], Truth[UpstreamSource]],
    database: Database,
) -> None:
    truth = truth_in(database)
    destination = Resolver(
        "HiEnergy",
        _HIENERGY_CHUNK_SIZE,
        truth.source.authenticate,
        credential,
        submission,
        uses_keys=True,
    )
    async with truth.opened():
        reads = UpstreamReads(truth.source.client, credential, max_calls=sys.maxsize)
        await running.into(destination, reads)


async def _through(
    running: "_Running", base_url: str, credential: Credential, options: ImportOptions
) -> None:
    async with UpstreamClient(base_url, timeout_seconds=30, max_connections=1) as client:
        destination = RunningGateway(
            client, credential, dry_run=options.dry_run, on_conflict=options.on_conflict
        )
        reads = UpstreamReads(client, credential, max_calls=sys.maxsize)
        await running.into(destination, reads)


class _Running:
    """One import, and what it prints. Implements `importing.Monitor`."""

    def __init__(self, source: SourceFile, options: ImportOptions, report: Path | None) -> None:
        self._source: Final = source
        self._columns: Final = ContactColumns(source.table, options.chosen)
        self._options: Final = options
        self._report_file: Final = report
        self._report: Report | None = None
        self._bar: Final = TransferBar("row", is_shown=output.console.is_terminal)
        self._counts: Final[Counter[Outcome]] = Counter()
        self._refused: Final[list[str]] = []
        self._stopped_by: signal.Signals | None = None
        self._error: ImportStoppedError | None = None
        self._began_at: Final = time.monotonic()

    @property
    def is_stopping(self) -> bool:
        """Whether a signal has come."""
        return self._source.stopped.is_set()

    async def into(self, destination: Destination, advertisers: Advertisers) -> None:
        """Import all rows into a destination, unless it refuses them or a signal comes."""
        importing = Import(
            self._columns,
            destination,
            AdvertiserCells(advertisers, accepts_names=self._options.resolves_names),
            self,
        )
        table = self._source.table
        file = self._report_file
        report = nullcontext() if file is None else report_to(file, self._columns.reported)
        with (
            suppress(ImportStoppedError),
            self._bar,
            self._signals_handled(),
            report as self._report,
        ):
            try:
                await importing.run(table.rows)
            except ImportStoppedError as error:
                self._error = error
                raise
            if self.is_stopping:
                raise ImportStoppedError("A signal has come. The report stays partial.")

    def finish(self) -> int:
        """Print what became of the rows; return the exit status."""
        counts = self._counts
        has_stopped = self._error is not None or self._stopped_by is not None
        for line in self._refused[:_MAX_LISTED_ROWS]:
            output.note(line)
        if len(self._refused) > _MAX_LISTED_ROWS:
            output.note("… --report lists all rows.")
        columns = self._columns
        if columns.ignored:
            output.note(f"Columns without a field: {listed(columns.ignored)}.")
        if columns.unseen:
            output.note(f"No row has a column of --map: {listed(columns.unseen)}.")
        if self._report_file is not None:
            name = partial_of(self._report_file) if has_stopped else self._report_file
            output.note(f"The report is {name}.")
        seconds = timedelta(seconds=round(time.monotonic() - self._began_at))
        output.note(f"{counted(counts.total(), 'row')} in {seconds}{':' if counts else '.'}")
        for outcome in Outcome:
            if outcome in counts:
                output.note(f"{counts[outcome]:>12,} {outcome}")
        if self._error is not None:
            output.print_error(f"{self._error} {_CONTINUES}")
            return FAILED
        if self._stopped_by is not None:
            output.note(f"Interrupted. {_CONTINUES}")
            return 128 + self._stopped_by
        return SOME_REFUSED if any(outcome.is_refusal for outcome in counts) else 0

    def report(self, rows: Sequence[ReportedRow]) -> None:
        """Write rows to the report, show how far the import is, and list the first refused rows."""
        if self._report is not None:
            reported = self._columns.as_reported
            self._report.add((reported(row), outcome) for row, outcome in rows)
        self._counts.update(outcome.outcome for _, outcome in rows)
        self._bar.show(self._counts.total(), rows[-1][0].line, self._source.lines)
        if len(self._refused) > _MAX_LISTED_ROWS:
            return
        refused = ((row, outcome) for row, outcome in rows if outcome.outcome.is_refusal)
        self._refused.extend(self._line_of(row, outcome) for row, outcome in refused)

    def _line_of(self, row: AnyRow, outcome: RowOutcome) -> str:
        """Return what is printed about a refused row: nothing that may contain its cells."""
        fields = self._columns.fields
        names = listed([fields.get(field, field) for field in outcome.problems])
        if not isinstance(row, Row):
            names = outcome.message
        return f"Line {row.line}: {outcome.outcome}{f', {names}' if names else ''}"

    async def wait(self, seconds: int, reason: str) -> None:
        """Wait, and show until when, unless a signal comes."""
        show_wait(seconds, reason)
        await asyncio.to_thread(self._source.stopped.wait, seconds)

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        """Stop the import at the first signal. A second Ctrl-C ends the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        earlier = {number: signal.getsignal(number) for number in _SIGNALS}
        handled = [number for number in _SIGNALS if earlier[number] is not signal.SIG_IGN]

        def restore(number: signal.Signals) -> None:
            if loop.remove_signal_handler(number):
                signal.signal(number, earlier[number])

        def stop(number: signal.Signals) -> None:
            restore(signal.SIGINT)
            if not self.is_stopping:
                self._stopped_by = number
                self._source.stopped.set()
                output.console.print(
                    "Stopping after the rows that are in flight. A second Ctrl-C stops at once."
                )

        for number in handled:
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number in handled:
                restore(number)
