"""Traces, as an OpenTelemetry collector receives them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from structlog.contextvars import clear_contextvars

from contact_gateway.telemetry.traces import Tracing
from contact_gateway.variables import SettingsError
from support.fake_source import context
from support.process import gateway_process
from support.upstream import upstream_gateway

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE_PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
MAYA = {"contact": {"advertiser_id": 2001, "email": "maya@example.com"}}
READ = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "get_advertiser", "arguments": {"id": 2001}},
}


@dataclass(slots=True)
class Collector:
    """A collector and the requests it received."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Span]:
        """Return all spans received so far."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        """Return the attributes of the service that sent the spans."""
        (attributes,) = {
            tuple((each.key, each.value.string_value) for each in spans.resource.attributes)
            for body in self.bodies
            for spans in ExportTraceServiceRequest.FromString(body).resource_spans
        }
        return dict(attributes)

    def environment(self) -> dict[str, str]:
        """Return the environment of a gateway that sends its traces here."""
        return {
            "CONTACT_GATEWAY_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector("")

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            collector.bodies.append(self.rfile.read(length))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def _attributes(span: Span) -> Mapping[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_request_is_a_span_of_the_trace_in_its_headers(
    tmp_path: Path, collector: Collector
) -> None:
    with gateway_process(tmp_path, "--demo", environment=collector.environment()) as process:
        with process.client(process.admin_key) as client:
            client.post(
                "/api/v1/contacts",
                json=MAYA,
                headers={"traceparent": TRACE_PARENT, "X-Request-Id": "a-request"},
            )
            client.post("/graphql", json={"query": "{ viewer { role } }"})
            client.post("/mcp", json=READ)
        log = process.log()
        assert process.stop() == 0

    rest, graphql, mcp = collector.spans()
    assert (rest.name, graphql.name) == ("rest create_contact", "graphql graphql")
    assert mcp.name == "mcp get_advertiser"
    assert rest.trace_id.hex() == TRACE_ID != graphql.trace_id.hex()
    assert rest.kind == Span.SPAN_KIND_SERVER
    assert _attributes(rest) == {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "contact_gateway.face": "rest",
        "contact_gateway.operation": "create_contact",
        "contact_gateway.outcome": "CREATED",
        "contact_gateway.request_id": "a-request",
    }
    assert f'"trace_id":"{TRACE_ID}"' in log
    assert collector.resource()["service.name"] == "contact-gateway"


def test_a_call_to_upstream_is_a_span_and_carries_the_trace(
    tmp_path: Path, collector: Collector
) -> None:
    for name in ("upstream", "gateway"):
        (tmp_path / name).mkdir()
    traced = collector.environment()
    with upstream_gateway(tmp_path / "upstream", **traced) as upstream:
        environment = traced | {"CONTACT_GATEWAY_UPSTREAM_URL": f"{upstream.url}"}
        with gateway_process(tmp_path / "gateway", environment=environment) as process:
            with process.client(upstream.keys["admin"]) as client:
                client.post("/api/v1/contacts", json=MAYA, headers={"traceparent": TRACE_PARENT})
                client.post("/mcp", json=READ, headers={"traceparent": TRACE_PARENT})
            assert process.stop() == 0

    spans = {(span.name, span.kind): span for span in collector.spans()}
    call = spans["HiEnergy POST", Span.SPAN_KIND_CLIENT]
    assert ("HiEnergy GET", Span.SPAN_KIND_CLIENT) in spans
    servers = [span for span in collector.spans() if span.kind == Span.SPAN_KIND_SERVER]
    assert {span.trace_id.hex() for span in collector.spans()} == {TRACE_ID}
    assert call.span_id in {span.parent_span_id for span in servers}
    assert _attributes(call)["http.response.status_code"] == 201


def test_no_span_contains_what_a_caller_sent(tmp_path: Path, collector: Collector) -> None:
    with gateway_process(tmp_path, "--demo", environment=collector.environment()) as process:
        with process.client(process.admin_key) as client:
            client.post("/api/v1/contacts", json=MAYA, headers={"Idempotency-Key": "idem-secret"})
            client.get("/api/v1/contacts", params={"email": "maya@example.com"})
            client.get("/secret-path")
            client.post("/graphql", json={"query": 'query secretName { contacts(q: "maya") { '})
        key = process.admin_key
        assert process.stop() == 0

    sent = b"".join(collector.bodies)
    assert len(collector.spans()) == 4
    for secret in (key, "maya", "idem-secret", "secret-path", "secretName"):
        assert secret.encode() not in sent


@pytest.mark.parametrize("header", ["tracestate", "baggage"])
def test_headers_that_cannot_be_read_are_not_logged(tmp_path: Path, header: str) -> None:
    environment = {
        "CONTACT_GATEWAY_TRACES": "true",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_PROPAGATORS": "tracecontext,baggage",
    }
    with gateway_process(tmp_path, environment=environment) as process:
        with process.client() as client:
            client.get("/healthz", headers={"traceparent": TRACE_PARENT, header: "maya@example"})
        assert process.stop() == 0

        assert TRACE_ID in process.log()
        assert "maya" not in process.log()


def test_an_unreachable_collector_fails_no_request(tmp_path: Path) -> None:
    environment = {
        "CONTACT_GATEWAY_TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with gateway_process(tmp_path, "--demo", environment=environment) as process:
        with process.client(process.admin_key) as client:
            assert client.post("/api/v1/contacts", json=MAYA).status_code == 201
        assert process.stop() == 0


def test_the_service_is_described_by_its_variables(tmp_path: Path, collector: Collector) -> None:
    environment = collector.environment() | {
        "OTEL_SERVICE_NAME": "gw-eu",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,service.name=other",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
    }
    with gateway_process(tmp_path, environment=environment) as process:
        with process.client() as client:
            client.get("/healthz")
        assert process.stop() == 0

    assert collector.resource()["service.name"] == "gw-eu"
    assert collector.resource()["deployment.environment.name"] == "staging"


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}],
    ids=["no exporter", "disabled"],
)
def test_no_span_is_sent_if_the_variables_say_so(
    tmp_path: Path, collector: Collector, variables: dict[str, str]
) -> None:
    environment = collector.environment() | variables
    with gateway_process(tmp_path, environment=environment) as process:
        with process.client() as client:
            assert client.get("/healthz").status_code == 200
        assert process.stop() == 0
        assert '"trace_id":"0000' not in process.log()

    assert collector.bodies == []


@pytest.mark.parametrize(
    ("propagators", "forwarded"),
    [
        ("", {"traceparent"}),
        ("tracecontext,baggage", {"traceparent", "baggage"}),
        ("baggage", {"baggage"}),
        ("none", set()),
    ],
)
@pytest.mark.parametrize("is_disabled", ["true", "false"])
def test_headers_are_forwarded_by_the_propagators(
    monkeypatch: pytest.MonkeyPatch, propagators: str, forwarded: set[str], is_disabled: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_PROPAGATORS", propagators)
    monkeypatch.setenv("OTEL_SDK_DISABLED", is_disabled)
    tracing = Tracing()
    request = context(None)
    request.headers = {"traceparent": TRACE_PARENT, "baggage": "tenant=7"}
    headers: dict[str, str] = {}

    with tracing.request(request), tracing.call("GET", headers):
        pass
    tracing.close()
    # The id of the trace stays, for the log line of the request.
    clear_contextvars()

    assert headers.keys() == forwarded
    assert TRACE_ID in headers.get("traceparent", TRACE_ID)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER"),
        ("OTEL_PROPAGATORS", "b33", "OTEL_PROPAGATORS"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "OTEL_"),
    ],
)
def test_an_unusable_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError, match=named):
        Tracing()
