"""Metrics for Prometheus: what is asked and answered, and how the store keeps up.

No label holds anything that a caller chose: operations and outcomes are the gateway's own words.

Several workers write theirs into files of one folder, `PROMETHEUS_MULTIPROC_DIR`, and whichever is
asked tells those of all.
"""

import os
import tempfile
from collections.abc import Iterator
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
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contact_gateway.faces.http import method_not_allowed
from contact_gateway.faces.request_context import RequestContext, request_context_of

_SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_NONE: Final = "none"
_READING: Final = ("GET", "HEAD")


class Metrics:
    """The metrics of one gateway, and the ASGI application that shows them."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        self._requests: Final = Counter(
            "contact_gateway_requests",
            "Requests that were answered.",
            ("face", "operation", "outcome"),
            registry=self._registry,
        )
        self._request_seconds: Final = Histogram(
            "contact_gateway_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ("face", "operation"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._commit_jobs: Final = Histogram(
            "contact_gateway_commit_jobs",
            "Jobs that shared a commit.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self._commit_seconds: Final = Histogram(
            "contact_gateway_commit_duration_seconds",
            "From the begin of a transaction to the end of its commit.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waiting: Final = Gauge(
            "contact_gateway_waiting_jobs",
            "Jobs that waited to be written when the last batch was begun.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._store_errors: Final = Counter(
            "contact_gateway_store_errors",
            "Batches that the store did not carry out, and jobs that were turned away.",
            ("kind",),
            registry=self._registry,
        )

    def answered(self, context: RequestContext, seconds: float) -> None:
        """Count a request."""
        face, operation = context.face or _NONE, context.operation or _NONE
        self._requests.labels(face, operation, context.outcome or _NONE).inc()
        self._request_seconds.labels(face, operation).observe(seconds)

    def batch_started(self, queued: int) -> None:
        """Record how many jobs are queued when a batch starts."""
        self._waiting.set(queued)

    def committed(self, jobs: int, seconds: float) -> None:
        """Count a commit."""
        self._commit_jobs.observe(jobs)
        self._commit_seconds.observe(seconds)

    def failed(self, kind: str) -> None:
        """Count a batch that failed, or a job that was turned away."""
        self._store_errors.labels(kind).inc()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Show the metrics of all workers."""
        if scope["method"] not in _READING:
            raise method_not_allowed(", ".join(_READING))
        context = request_context_of(scope)
        context.operation, context.outcome = "metrics", "OK"
        shown = Response(generate_latest(self._shown()), media_type=CONTENT_TYPE_LATEST)
        await shown(scope, receive, send)

    def _shown(self) -> CollectorRegistry:
        if _SHARED_FOLDER not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        # The library has no types for this.
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


@contextmanager
def shared_between_workers() -> Iterator[None]:
    """Name a new folder for the metrics of the processes that are started within."""
    with tempfile.TemporaryDirectory(prefix="contact-gateway-metrics-") as folder:
        os.environ[_SHARED_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[_SHARED_FOLDER]
