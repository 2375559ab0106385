"""Metrics for Prometheus: requests by outcome, their duration, commits, and calls to HiEnergy.

No label contains anything that a caller sent: operations and outcomes are the gateway's own names.

With several workers, each writes its metrics to files in the folder `PROMETHEUS_MULTIPROC_DIR`, and
any worker serves the sum.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contact_gateway.faces.http import method_not_allowed
from contact_gateway.faces.request_context import RequestContext, request_context_of
from contact_gateway.telemetry.line_writer import on_dropped

_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_NONE: Final = "none"
_METHODS: Final = ("GET", "HEAD")


class Metrics:
    """The metrics of a gateway, and the ASGI application that serves them."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        self._requests: Final = Counter(
            "contact_gateway_requests",
            "Requests, by face, operation and outcome.",
            ("face", "operation", "outcome"),
            registry=self._registry,
        )
        self._request_seconds: Final = Histogram(
            "contact_gateway_request_duration_seconds",
            "Time from the request head to the end of the response.",
            ("face", "operation"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._commit_jobs: Final = Histogram(
            "contact_gateway_commit_jobs",
            "Jobs in a commit.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self._commit_seconds: Final = Histogram(
            "contact_gateway_commit_duration_seconds",
            "Time from the start of a transaction to the end of its commit.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._queued_jobs: Final = Gauge(
            "contact_gateway_waiting_jobs",
            "Jobs in the queue when the last batch started.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._store_errors: Final = Counter(
            "contact_gateway_store_errors",
            "Failed batches and refused jobs, by kind of failure.",
            ("kind",),
            registry=self._registry,
        )

        self._upstream_calls: Final = Counter(
            "contact_gateway_upstream_calls",
            "Calls to HiEnergy's API for requests, by its operation.",
            ("operation",),
            registry=self._registry,
        )
        self._skipped_rows: Final = Counter(
            "contact_gateway_upstream_rows_skipped",
            "Rows of HiEnergy's lists that were left out because they could not be read.",
            registry=self._registry,
        )
        self._dropped_lines: Final = Counter(
            "contact_gateway_log_lines_dropped",
            "Log lines that were dropped because the log could not be written in time.",
            registry=self._registry,
        )
        on_dropped(self._dropped_lines.inc)

    def answered(self, context: RequestContext, seconds: float) -> None:
        """Record the outcome and duration of a request."""
        face, operation = context.face or _NONE, context.operation or _NONE
        self._requests.labels(face, operation, context.outcome or _NONE).inc()
        self._request_seconds.labels(face, operation).observe(seconds)

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the metrics of all workers."""
        if scope["method"] not in _METHODS:
            raise method_not_allowed(", ".join(_METHODS))
        context = request_context_of(scope)
        context.operation, context.outcome = "metrics", "OK"
        registry = self._registry
        if _SHARED_FOLDER in os.environ:
            registry = CollectorRegistry()
            # The class has no type annotations.
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        response = Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
        await response(scope, receive, send)


@contextmanager
def shared_between_workers() -> Iterator[Callable[[int], None]]:
    """Provide a temporary folder for the metrics of the workers that are started inside."""
    with tempfile.TemporaryDirectory(prefix="contact-gateway-metrics-") as folder:
        os.environ[_SHARED_FOLDER] = folder
        try:
            yield mark_process_dead
        finally:
            del os.environ[_SHARED_FOLDER]
