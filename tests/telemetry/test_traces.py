"""Traces, as an OpenTelemetry collector receives them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.process import gateway_process
from support.upstream import upstream_gateway

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE_PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
MAYA = {"contact": {"advertiser_id": 2001, "email": "maya@example.com"}}


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
        log = process.log()
        assert process.stop() == 0

    rest, graphql = collector.spans()
    assert (rest.name, graphql.name) == ("rest create_contact", "graphql graphql")
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
            assert process.stop() == 0

    spans = {(span.name, span.kind): span for span in collector.spans()}
    call = spans["HiEnergy POST", Span.SPAN_KIND_CLIENT]
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
