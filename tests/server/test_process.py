"""The server process: SIGTERM and Ctrl-C complete the requests in flight."""

import json
import signal
import socket
from pathlib import Path
from time import monotonic

import pytest
import uvicorn
from uvicorn.supervisors import Multiprocess

from contact_gateway.app import app_from_environment
from contact_gateway.server.process import listen, serve_with_workers
from support.process import GatewayProcess, gateway_process
from support.raw_http import connect, receive_all


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_request_in_flight_is_answered_and_new_connections_are_refused(
    tmp_path: Path, number: signal.Signals
) -> None:
    body = b'{"contact": {"advertiser_id": 2001, "email": "late@example.com"}}'
    with gateway_process(tmp_path, "--demo") as process:
        with connect(process) as connection:
            connection.sendall(
                b"POST /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\n"
                b"X-Api-Key: " + process.admin_key.encode() + b"\r\n"
                b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
                b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body[:20]
            )
            # The interim response shows that the application reads the body.
            assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"

            process.send(number)
            _wait_until_connections_are_refused(process)
            connection.sendall(body[20:])
            response = receive_all(connection)

        assert process.exit_status() == 0
        assert process.log().count("Traceback") == 0

    head, _, content = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    assert json.loads(content)["data"]["attributes"]["email"] == "late@example.com"


def _wait_until_connections_are_refused(process: GatewayProcess) -> None:
    # The bound is for a server that does not stop; it is not a measurement.
    deadline = monotonic() + 60
    while monotonic() < deadline:
        try:
            connect(process).close()
        except OSError:
            return
    pytest.fail("the server still accepts connections")


def test_several_workers_serve_and_stop_with_exit_status_0(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--demo", "--workers", "2") as process:
        with process.client(process.admin_key) as client:
            created = client.post(
                "/api/v1/contacts",
                json={"contact": {"advertiser_id": 2001, "email": "maya@example.com"}},
            )

        assert created.status_code == 201
        assert process.stop() == 0
        assert process.log().count("Traceback") == 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::", "[::]", "0::0"])
def test_all_interfaces_of_ipv6_include_those_of_ipv4(host: str) -> None:
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port)).close()


def test_a_worker_that_is_slow_to_start_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn's default of 5 s replaced workers that still imported the gateway, for ever."""
    configs: list[uvicorn.Config] = []

    def record(_: Multiprocess, config: uvicorn.Config, **_options: object) -> None:
        configs.append(config)

    monkeypatch.setattr(Multiprocess, "__init__", record)
    monkeypatch.setattr(Multiprocess, "run", lambda _: None)

    with listen("127.0.0.1", 0) as listener:
        serve_with_workers(app_from_environment, listener, 2, lambda: None)

    assert [config.timeout_worker_healthcheck for config in configs] == [60]
