"""Traces for OpenTelemetry: a span for each request, and one for each call of HiEnergy's API.

Where they go, and how many are kept, is set by the `OTEL_…` variables of the environment. No span
holds anything that a caller sent but the trace it belongs to: no path, query, header or value.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from contact_gateway.faces.request_context import request_context_of
from contact_gateway.upstream.client import RecordStatus

_FAULT: Final = 500
_W3C: Final = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans, and sends them where the environment says."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_NAME: "contact-gateway"})
        self._provider: Final = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Final = self._provider.get_tracer("contact_gateway")

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()

    def middleware(self) -> Middleware:
        """Return what spans each request."""
        return Middleware(Traced, tracing=self)

    def _span(
        self, name: str, kind: SpanKind, context: Context | None = None
    ) -> AbstractContextManager[Span]:
        # The text of an exception may hold what a caller sent.
        return self._tracer.start_as_current_span(
            name, context, kind, record_exception=False, set_status_on_exception=False
        )

    def request(self, headers: dict[str, str]) -> AbstractContextManager[Span]:
        """Span a request, as part of the trace that its headers name."""
        return self._span("request", SpanKind.SERVER, _W3C.extract(headers))

    @contextmanager
    def call(self, method: str, headers: dict[str, str]) -> Iterator[RecordStatus]:
        """Span a call of HiEnergy's API, and name the trace in its headers."""
        with self._span(f"HiEnergy {method}", SpanKind.CLIENT) as span:
            _W3C.inject(headers)
            span.set_attribute("http.request.method", method)

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= _FAULT:
                    span.set_status(Status(StatusCode.ERROR))

            yield answered


class Traced:
    """The middleware that spans each request."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app: Final = app
        self._tracing: Final = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = request_context_of(scope)
        with self._tracing.request(dict(context.headers)) as span:
            trace_id = format_trace_id(span.get_span_context().trace_id)
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
            try:
                await self._app(scope, receive, send)
            finally:
                face, operation = context.face or "none", context.operation or "none"
                span.update_name(f"{face} {operation}")
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.response.status_code": context.status,
                        "contact_gateway.face": face,
                        "contact_gateway.operation": operation,
                        "contact_gateway.outcome": context.outcome or "none",
                        "contact_gateway.request_id": context.request_id,
                    }
                )
                if context.status >= _FAULT:
                    span.set_status(Status(StatusCode.ERROR))
