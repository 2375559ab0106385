"""OpenTelemetry traces: a span for each request and for each call to HiEnergy's API.

The `OTEL_…` environment variables configure the exporter and the sampling. No span contains
anything that a caller sent, except the trace ids and a valid `X-Request-Id`.
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

_SERVER_ERROR: Final = 500
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()


class Tracing:
    """Creates the spans of a gateway and exports them."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_NAME: "contact-gateway"})
        self._provider: Final = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Final = self._provider.get_tracer("contact_gateway")

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()

    def middleware(self) -> Middleware:
        """Return the middleware that creates a span for each request."""
        return Middleware(TracingMiddleware, tracing=self)

    def _span(
        self, name: str, kind: SpanKind, context: Context | None = None
    ) -> AbstractContextManager[Span]:
        # The text of an exception may contain what a caller sent.
        return self._tracer.start_as_current_span(
            name, context, kind, record_exception=False, set_status_on_exception=False
        )

    def request(self, headers: dict[str, str]) -> AbstractContextManager[Span]:
        """Return the span of a request, which continues the trace in its `traceparent` header."""
        return self._span("request", SpanKind.SERVER, _TRACE_CONTEXT.extract(headers))

    @contextmanager
    def call(self, method: str, headers: dict[str, str]) -> Iterator[RecordStatus]:
        """Open the span of a call to HiEnergy's API, and add `traceparent` to its headers."""
        with self._span(f"HiEnergy {method}", SpanKind.CLIENT) as span:
            _TRACE_CONTEXT.inject(headers)
            span.set_attribute("http.request.method", method)

            def set_status(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= _SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))

            yield set_status


class TracingMiddleware:
    """Creates a span for each request."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app: Final = app
        self._tracing: Final = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside the request's span."""
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
                if context.status >= _SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))
