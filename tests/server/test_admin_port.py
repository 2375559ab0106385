"""The admin port: metrics and health checks there, and nowhere else."""

import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from contact_gateway.server.listeners import UNREAD_TIMEOUT_SECONDS, listen
from contact_gateway.server.stopping import StoppableServer, Timeouts
from support.clock import WATCHDOG_SECONDS
from support.process import GatewayProcess, gateway_process
from support.raw_http import connect, receive_all

ADMIN = {"CONTACT_GATEWAY_ADMIN_PORT": "0", "CONTACT_GATEWAY_METRICS": "true"}
PATHS = ("/healthz", "/readyz", "/metrics")
WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])
BODY = b'{"query": "{ __typename }"}'


@WORKERS
def test_the_paths_of_operators_are_on_the_admin_port_only(tmp_path: Path, workers: str) -> None:
    with gateway_process(tmp_path, "--demo", "--workers", workers, environment=ADMIN) as process:
        with process.client(process.admin_key) as client, process.admin_client() as admin:
            public = [client.get(path).status_code for path in (*PATHS, "/api/v1/contacts")]
            answers = [admin.get(path) for path in PATHS]
            refused = [admin.get(path) for path in ("/api/v1/contacts", "/graphql", "/readyz%0A")]

        assert public == [404, 404, 404, 200]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert all("Date" in answer.headers for answer in answers)
        assert [answer.status_code for answer in refused] == [404, 404, 404]
        assert refused[0].json()["error"]["message"] == (
            "Unknown path. The admin port serves /healthz, /readyz, /metrics."
        )
        assert process.stop() == 0


def test_without_metrics_it_serves_health_checks(tmp_path: Path) -> None:
    environment = {"CONTACT_GATEWAY_ADMIN_PORT": "0"}
    with (
        gateway_process(tmp_path, environment=environment) as process,
        process.admin_client() as admin,
    ):
        assert [admin.get(path).status_code for path in PATHS] == [200, 200, 404]


def test_its_address_may_be_another_one(tmp_path: Path) -> None:
    environment = {
        "CONTACT_GATEWAY_ADMIN_PORT": "0",
        "CONTACT_GATEWAY_ADMIN_HOST": "127.0.0.2",
    }
    with gateway_process(tmp_path, environment=environment) as process:
        with process.client() as client, process.admin_client() as admin:
            ready = admin.get("/readyz")

            assert (client.base_url.host, admin.base_url.host) == ("127.0.0.1", "127.0.0.2")
        assert ready.status_code == 200


@WORKERS
def test_it_answers_until_the_last_request_has_ended(tmp_path: Path, workers: str) -> None:
    with gateway_process(tmp_path, "--workers", workers, environment=ADMIN) as process:
        with _begun_request(process) as connection, process.admin_client() as admin:
            before = admin.get("/readyz")
            process.send(signal.SIGTERM)
            _wait_until_the_public_port_is_closed(process)
            # By new connections: the worker without a request has ended.
            after = [_get(process, path) for path in PATHS]
            connection.sendall(BODY)
            answer = receive_all(connection)

        assert process.exit_status() == 0
        log = process.log()

    assert before.status_code == 200
    assert [response.status_code for response in after] == [200, 503, 200]
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in log


def _begun_request(process: GatewayProcess) -> socket.socket:
    """Send the head of a request, which is then in flight; return its connection."""
    connection = connect(process)
    connection.sendall(
        b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n"
    )
    # The interim response shows that the application reads the body.
    assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


@retry(
    stop=stop_after_delay(WATCHDOG_SECONDS),
    wait=wait_fixed(0.1),
    retry=retry_if_result(lambda is_open: is_open),
)
def _wait_until_the_public_port_is_closed(process: GatewayProcess) -> bool:
    try:
        connect(process).close()
    except OSError:
        return False
    return True


@retry(
    stop=stop_after_delay(WATCHDOG_SECONDS),
    wait=wait_fixed(0.1),
    # A connection may be accepted by the worker that is just ending.
    retry=retry_if_exception_type(httpx.TransportError),
)
def _get(process: GatewayProcess, path: str) -> httpx.Response:
    with process.admin_client() as admin:
        return admin.get(path)


def test_a_connection_that_is_idle_does_not_delay_the_stop(tmp_path: Path) -> None:
    environment = ADMIN | {"CONTACT_GATEWAY_SHUTDOWN_SECONDS": "3000"}
    with (
        gateway_process(tmp_path, environment=environment) as process,
        process.admin_client() as admin,
    ):
        assert admin.get("/readyz").status_code == 200
        assert process.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such timeout")
def test_a_connection_whose_client_does_not_read_has_a_timeout() -> None:
    app = PlainTextResponse("fine")
    config = uvicorn.Config(app, loop="asyncio", lifespan="off", log_config=None)
    timeouts: list[int] = []
    with listen("127.0.0.1", 0) as public, listen("127.0.0.1", 0) as admin:

        def started() -> None:
            # A test of the timeout itself would take a minute.
            for listener in (public, admin):
                option = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                timeouts.append(option)
            server.should_exit = True

        server = StoppableServer(config, Timeouts(), started, admin)
        server.run(sockets=[public])

    assert timeouts == [1_000 * UNREAD_TIMEOUT_SECONDS] * 2


def test_it_sums_all_workers_and_outlives_each(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--demo", "--workers", "2", environment=ADMIN) as process:
        for _ in range(20):
            with process.client(process.member_key) as client:
                assert client.get("/api/v1/contacts").status_code == 200
        # A worker counts a request after it has answered it.
        while (before := _reads(process)) < 20:
            pass
        (killed, _) = process.workers(2)
        os.kill(killed, signal.SIGKILL)
        process.workers(2, without=killed)
        after = _reads(process)

    assert (before, after) == (20, 20)


def _reads(process: GatewayProcess) -> float:
    text = _get(process, "/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "contact_gateway_requests_total"
        and sample.labels["operation"] == "contacts"
    )
