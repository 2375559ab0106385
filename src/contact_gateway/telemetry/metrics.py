"""Metrics for Prometheus: requests by outcome, their duration, commits, and calls to HiEnergy.

Operations and outcomes are the gateway's own names. Of what callers send, labels contain only the
names and versions of clients, a bounded number of them, and only after a request with a valid key.

With several workers, each writes its metrics to files in a folder, and any worker serves the sum.
The folder is made in `PROMETHEUS_MULTIPROC_DIR` if that is set, and the workers find it there.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request

from contact_gateway.faces.client_name import Client
from contact_gateway.faces.http import Response
from contact_gateway.faces.request_context import RequestContext
from contact_gateway.telemetry.line_writer import on_dropped

MAX_CLIENT_NAMES: Final = 50
"""Names of clients with a label of their own, for each process."""

MAX_VERSIONS_PER_CLIENT: Final = 20
"""Versions of one client with a label of their own, for each process."""

_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_NONE: Final = "none"
_OTHER: Final = "other"


class Metrics:
    """The metrics of a gateway, and the handler that serves them. Workers share a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._registry: Final = CollectorRegistry()
        self._shared: Final = None if folder is None else _SharedFiles(folder)
        # By itself, the library shares metrics if PROMETHEUS_MULTIPROC_DIR is set.
        values.ValueClass = (
            values.MutexValue
            if self._shared is None
            else values.MultiProcessValue(self._shared.owner)  # type: ignore[no-untyped-call]
        )
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry, multiprocess_mode="livesum")
        requests = counter(
            "contact_gateway_requests",
            "Requests, by face, operation and outcome.",
            ("face", "operation", "outcome"),
        )
        request_seconds = histogram(
            "contact_gateway_request_duration_seconds",
            "Time from the request head to the end of the response.",
            ("face", "operation"),
            buckets=_SECONDS,
        )
        # The library takes 2 µs to find the metric of some labels, which are few.
        self._requests_of: Final = cache(requests.labels)
        self._seconds_of: Final = cache(request_seconds.labels)
        self._client_requests: Final = counter(
            "contact_gateway_client_requests",
            "Requests of clients that name themselves, by name and version.",
            ("client_name", "client_version"),
        )
        self._client_labels: Final = _ClientLabels()
        self._commit_jobs: Final = histogram(
            "contact_gateway_commit_jobs",
            "Jobs in a commit.",
            buckets=_SIZES,
        )
        self._commit_seconds: Final = histogram(
            "contact_gateway_commit_duration_seconds",
            "Time from the start of a transaction to the end of its commit.",
            buckets=_SECONDS,
        )
        self._queued_jobs: Final = gauge(
            "contact_gateway_waiting_jobs",
            "Jobs in the queue when the last batch started.",
        )
        self._store_errors: Final = counter(
            "contact_gateway_store_errors",
            "Failed batches and refused jobs, by kind of failure.",
            ("kind",),
        )
        self._connections: Final = gauge(
            "contact_gateway_database_connections_in_use",
            "Connections to the database that run a transaction, by what they are for.",
            ("pool",),
        )
        self._repeated_transactions: Final = counter(
            "contact_gateway_transactions_repeated",
            "Transactions that were run again, by cause.",
            ("cause",),
        )
        self._upstream_calls: Final = counter(
            "contact_gateway_upstream_calls",
            "Calls to HiEnergy's API for requests, by its operation.",
            ("operation",),
        )
        self._skipped_rows: Final = counter(
            "contact_gateway_upstream_rows_skipped",
            "Rows of HiEnergy's lists that were left out because they could not be read.",
        )
        self._dropped_lines: Final = counter(
            "contact_gateway_log_lines_dropped",
            "Log lines that were dropped because the log could not be written in time.",
        )
        on_dropped(self._dropped_lines.inc)

    def answered(self, context: RequestContext, seconds: float) -> None:
        """Record the outcome and duration of a request."""
        if self._shared is not None:
            self._shared.replace_lost()
        face, operation = context.face or _NONE, context.operation or _NONE
        self._requests_of(face, operation, context.outcome or _NONE).inc()
        self._seconds_of(face, operation).observe(seconds)
        if context.client is not None:
            is_accepted = context.caller.is_accepted
            labels = self._client_labels.of(context.client, is_accepted=is_accepted)
            self._client_requests.labels(*labels).inc()

    def connections_changed(self, pool: str, in_use: int) -> None:
        """Record how many connections of a pool are in use."""
        self._connections.labels(pool).set(in_use)

    def transaction_repeated(self, cause: str) -> None:
        """Record that a transaction is run again."""
        self._repeated_transactions.labels(cause).inc()

    def batch_started(self, queued: int) -> None:
        """Record how many jobs are queued when a batch starts."""
        self._queued_jobs.set(queued)

    def committed(self, jobs: int, seconds: float) -> None:
        """Record the size and duration of a commit."""
        self._commit_jobs.observe(jobs)
        self._commit_seconds.observe(seconds)

    def failed(self, kind: str) -> None:
        """Record a failed batch or a refused job."""
        self._store_errors.labels(kind).inc()

    def called(self, operation: str) -> None:
        """Record a call to HiEnergy's API."""
        self._upstream_calls.labels(operation).inc()

    def rows_skipped(self, rows: int) -> None:
        """Record rows of HiEnergy's lists that were left out."""
        self._skipped_rows.inc(rows)

    async def metrics(self, _request: Request, _context: RequestContext) -> Response:
        """Return the metrics of all workers."""
        registry = self._registry
        if self._shared is not None:
            self._shared.replace_lost()
            # Files that were lost are made by the next write.
            self._skipped_rows.inc(0)
            registry = CollectorRegistry()
            # The class has no type annotations.
            MultiProcessCollector(registry, str(self._shared.folder))  # type: ignore[no-untyped-call]
        return Response.of(generate_latest(registry), CONTENT_TYPE_LATEST)


class _ClientLabels:
    """The names and versions of clients that have a label of their own. The rest share one.

    Strangers get none, so they cannot use up the number.
    """

    def __init__(self) -> None:
        self._versions: Final[dict[str, set[str]]] = {}

    def of(self, client: Client, *, is_accepted: bool) -> tuple[str, str]:
        """Return the labels of a client, new ones only if its credential is accepted."""
        versions = self._versions.get(client.name)
        if versions is None:
            if not is_accepted or len(self._versions) >= MAX_CLIENT_NAMES:
                return _OTHER, _OTHER
            versions = self._versions[client.name] = set()
        version = client.version or _NONE
        if version not in versions:
            if not is_accepted or len(versions) >= MAX_VERSIONS_PER_CLIENT:
                return client.name, _OTHER
            versions.add(version)
        return client.name, version


class _SharedFiles:
    """The files in which this process shares its metrics with the other workers."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._losses = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def owner(self) -> str:
        """Return the name of this process in its files. With another name, it makes new files."""
        return f"{os.getpid()}-{self._losses}"

    def replace_lost(self) -> None:
        """Make the folder again if it was deleted, as by a program that cleans up `/tmp`.

        This process's metrics start again at 0, as after a restart.
        """
        if not (self.folder / f"counter_{self.owner()}.db").exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._losses += 1


class MetricsFolderError(OSError):
    """The folder in which workers share their metrics cannot be made. The message says why."""


def shared_folder() -> Path | None:
    """Return the folder in which this worker shares its metrics; None if it is the only process."""
    folder = os.environ.get(_SHARED_FOLDER)
    return None if folder is None else Path(folder)


@contextmanager
def shared_between_workers() -> Iterator[Callable[[int], None]]:
    """Provide a folder for the metrics of the workers that are started inside.

    Yields:
        A function that removes what no longer counts of a worker that has ended, by its id.

    Raises:
        MetricsFolderError: the folder cannot be made.
    """
    parent = os.environ.get(_SHARED_FOLDER)
    try:
        folder = Path(tempfile.mkdtemp(prefix="contact-gateway-metrics-", dir=parent))
    except OSError as error:
        raise MetricsFolderError(
            f"{_SHARED_FOLDER}: no folder can be made in {parent or tempfile.gettempdir()}: "
            f"{error.strerror}"
        ) from None

    def forget(process_id: int) -> None:
        for file in folder.glob(f"gauge_live*_{process_id}-*.db"):
            file.unlink(missing_ok=True)

    os.environ[_SHARED_FOLDER] = str(folder)
    try:
        yield forget
    finally:
        del os.environ[_SHARED_FOLDER]
        if parent is not None:
            os.environ[_SHARED_FOLDER] = parent
        shutil.rmtree(folder, ignore_errors=True)
