"""OpenTelemetry traces: a span for each request and for each call to HiEnergy's API.

The `OTEL_…` environment variables configure it. OpenTelemetry's own reading of those for exporters
is private, so they are read here. No span contains anything that a caller sent, except the trace
ids and a valid `X-Request-Id`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from opentelemetry.context import attach, detach, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from starlette.types import ASGIApp, Receive, Scope, Send

from contact_gateway.faces.request_context import RequestContext, request_context_of
from contact_gateway.upstream.client import RecordStatus
from contact_gateway.variables import SettingsError

_SERVER_ERROR: Final = 500
_SERVICE_NAME: Final = "contact-gateway"
# OpenTelemetry's own name for a service without one begins with this.
_UNNAMED: Final = "unknown_service"
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Tracing:
    """Creates the spans of a gateway and exports them.

    Raises:
        SettingsError: an `OTEL_…` variable names what is not installed, or is invalid.
    """

    def __init__(self) -> None:
        # Propagators log headers that they cannot read as warnings, with the text of the caller.
        for package in ("baggage", "propagators", "trace"):
            logging.getLogger(f"opentelemetry.{package}").setLevel(logging.ERROR)
        try:
            self._propagator: Final = _propagator()
            resource = Resource.create()
            if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
                resource = resource.merge(Resource({SERVICE_NAME: _SERVICE_NAME}))
            self._provider: Final = TracerProvider(resource=resource)
            for exporter in _exporters():
                self._provider.add_span_processor(BatchSpanProcessor(exporter))
        except SettingsError:
            raise
        except ValueError as error:
            # OpenTelemetry does not say which variable it is.
            raise SettingsError(f"CONTACT_GATEWAY_TRACES: an OTEL_… variable: {error}") from None
        self._tracer: Final = self._provider.get_tracer("contact_gateway")

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return an application that handles each request in a span."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            with self.request(request_context_of(scope)):
                await app(scope, receive, send)

        return traced

    def _span(self, name: str, kind: SpanKind) -> AbstractContextManager[Span]:
        # The text of an exception may contain what a caller sent.
        return self._tracer.start_as_current_span(
            name, kind=kind, record_exception=False, set_status_on_exception=False
        )

    @contextmanager
    def request(self, context: RequestContext) -> Iterator[None]:
        """Open the span of a request, which continues the trace in its headers."""
        token = attach(self._propagator.extract(dict(context.headers), get_current()))
        try:
            with self._span("request", SpanKind.SERVER) as span:
                span_context = span.get_span_context()
                if span_context.is_valid:
                    context.trace_id = format_trace_id(span_context.trace_id)
                try:
                    yield
                finally:
                    _describe(span, context)
        finally:
            detach(token)

    @contextmanager
    def call(self, method: str, headers: dict[str, str]) -> Iterator[RecordStatus]:
        """Open the span of a call to HiEnergy's API, and add the trace to its headers."""
        with self._span(f"HiEnergy {method}", SpanKind.CLIENT) as span:
            self._propagator.inject(headers)
            span.set_attribute("http.request.method", method)

            def set_status(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= _SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))

            yield set_status


def _describe(span: Span, context: RequestContext) -> None:
    """Add what a request turned out to be to its span."""
    face, operation = context.face or "none", context.operation or "none"
    span.update_name(f"{face} {operation}")
    span.set_attributes(
        {
            "http.request.method": context.method,
            "http.response.status_code": context.status,
            "contact_gateway.face": face,
            "contact_gateway.operation": operation,
            "contact_gateway.outcome": context.outcome or "none",
            "contact_gateway.request_id": context.request_id,
        }
    )
    if context.status >= _SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))


def _exporters() -> list[SpanExporter]:
    variable = "OTEL_TRACES_EXPORTER"
    names = _listed(variable, "otlp")
    if "none" in names or _variable("OTEL_SDK_DISABLED").lower() == "true":
        return []
    exporters: list[SpanExporter] = []
    for name in names:
        exporter, named_by = name, variable
        if name == "otlp":
            named_by = next(filter(_variable, _PROTOCOL_VARIABLES), _PROTOCOL_VARIABLES[-1])
            # By default the protocol of the extra `otel`.
            protocol = _variable(named_by) or "http/protobuf"
            if protocol not in _PROTOCOLS:
                raise SettingsError(f"{named_by}: use http/protobuf or grpc.")
            exporter = _PROTOCOLS[protocol]
        exporters.append(_named("opentelemetry_traces_exporter", exporter, named_by).load()())
    return exporters


def _propagator() -> CompositePropagator:
    variable = "OTEL_PROPAGATORS"
    # `baggage` is a default of OpenTelemetry too, but a caller's is not meant for HiEnergy.
    names = _listed(variable, "tracecontext")
    if "none" in names:
        return CompositePropagator([])
    return CompositePropagator(
        [_named("opentelemetry_propagator", name, variable).load()() for name in names]
    )


def _named(group: str, name: str, variable: str) -> EntryPoint:
    """Return a registered part of OpenTelemetry, or raise SettingsError."""
    for entry_point in entry_points(group=group, name=name):
        return entry_point
    raise SettingsError(
        f"{variable}: {name} is not installed, or misspelled. "
        f"Packages register it as `{group}`, mostly those named opentelemetry-…."
    )


def _listed(variable: str, default: str) -> list[str]:
    texts = (_variable(variable) or default).split(",")
    return [text.strip() for text in texts if text.strip()]


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
