"""The server process: it starts, drains, completes the requests in flight, and ends."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from contact_gateway.server.listeners import listen
from support.clock import WATCHDOG_SECONDS
from support.process import (
    SERVE,
    GatewayProcess,
    child_processes,
    clean_environment,
    gateway_process,
)
from support.raw_http import HEALTHZ, connect, receive_all, statuses

NEVER = {"CONTACT_GATEWAY_DRAIN_SECONDS": "3000", "CONTACT_GATEWAY_SHUTDOWN_SECONDS": "3600"}
WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])
BODY = b'{"contact": {"advertiser_id": 2001, "email": "late@example.com"}}'


def _begin_creation(process: GatewayProcess) -> socket.socket:
    """Send a creation but for the end of its body; return its connection."""
    connection = connect(process)
    connection.sendall(
        b"POST /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\n"
        b"X-Api-Key: " + process.admin_key.encode() + b"\r\n"
        b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY[:20]
    )
    # The interim response shows that the application reads the body.
    assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_request_in_flight_is_answered_and_new_connections_are_refused(
    tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    with gateway_process(tmp_path, "--demo", "--workers", workers) as process:
        with _begin_creation(process) as connection:
            process.send(number)
            _wait_until_connections_are_refused(process)
            connection.sendall(BODY[20:])
            response = receive_all(connection)

        assert process.exit_status() == 0
        assert process.log().count("Traceback") == 0

    head, _, content = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    assert json.loads(content)["data"]["attributes"]["email"] == "late@example.com"


def _wait_until_connections_are_refused(process: GatewayProcess) -> None:
    retry(
        stop=stop_after_delay(WATCHDOG_SECONDS),
        wait=wait_fixed(0.1),
        retry=retry_if_result(lambda is_open: is_open),
    )(_accepts_connections)(process)


def _accepts_connections(process: GatewayProcess) -> bool:
    try:
        connect(process).close()
    except OSError:
        return False
    return True


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(
    tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    """The creation never ends, and the time for it is an hour."""
    with gateway_process(tmp_path, "--demo", "--workers", workers, environment=NEVER) as process:
        with _begin_creation(process) as connection:
            process.send(number)
            _wait_until_not_ready(process)
            process.send(number)

            assert process.exit_status() == 0
            assert receive_all(connection) == b""
        assert process.log().count("Traceback") == 0


def _wait_until_not_ready(process: GatewayProcess) -> httpx.Response:
    def readyz() -> httpx.Response:
        with process.client() as client:
            return client.get("/readyz")

    return retry(
        stop=stop_after_delay(WATCHDOG_SECONDS),
        wait=wait_fixed(0.1),
        retry=retry_if_result(lambda response: response.status_code != 503),
    )(readyz)()


@WORKERS
def test_while_it_drains_the_process_serves_but_is_not_ready(tmp_path: Path, workers: str) -> None:
    with gateway_process(tmp_path, "--demo", "--workers", workers, environment=NEVER) as process:
        with connect(process) as idle:
            idle.sendall(HEALTHZ)
            before = idle.recv(65536)
            process.send(signal.SIGTERM)
            not_ready = _wait_until_not_ready(process)
            idle.sendall(HEALTHZ)
            after = receive_all(idle)
        with process.client(process.admin_key) as client:
            created = client.post("/api/v1/contacts", content=BODY, headers=JSON)

        assert not_ready.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert created.status_code == 201
        assert b"connection: close" not in before
        # So that a proxy opens its next connection to another process.
        assert b"connection: close" in after
        assert created.headers["Connection"] == "close"
        assert process.stop() == 0


JSON = {"Content-Type": "application/json"}


def test_after_the_drain_the_process_ends(tmp_path: Path) -> None:
    environment = {"CONTACT_GATEWAY_DRAIN_SECONDS": "0.1"}
    with gateway_process(tmp_path, environment=environment) as process:
        assert process.stop() == 0


def test_clients_that_do_not_read_are_cut_off_within_the_time_to_shut_down(
    tmp_path: Path,
) -> None:
    environment = {"CONTACT_GATEWAY_SHUTDOWN_SECONDS": "1"}
    script = b"GET /graphql/explorer/vendor/graphiql.min.js HTTP/1.1\r\nHost: here\r\n\r\n"
    with gateway_process(tmp_path, environment=environment) as process:
        with connect(process) as silent:
            silent.sendall(script * 20)
            assert silent.recv(12) == b"HTTP/1.1 200"

            assert process.stop() == 0
        log = process.log()

    assert "closed 1 connections that were in use 1 s after the signal" in log
    assert "Traceback" not in log


@WORKERS
def test_requests_that_do_not_end_are_cut_off_within_the_time_to_shut_down(
    tmp_path: Path, workers: str
) -> None:
    """HiEnergy does not answer a creation for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        environment = {
            "CONTACT_GATEWAY_SHUTDOWN_SECONDS": "1",
            "CONTACT_GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{upstream.getsockname()[1]}/api/v1",
        }
        with gateway_process(tmp_path, "--workers", workers, environment=environment) as process:
            with connect(process) as connection:
                connection.sendall(
                    b"POST /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\nX-Api-Key: any\r\n"
                    b"Content-Type: application/json\r\n"
                    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
                )
                call, _ = upstream.accept()
                with call:
                    assert call.recv(65536).startswith(b"GET /api/v1/")

                    assert process.stop() == 0
                assert receive_all(connection) == b""
            assert "closed 1 connections that were in use 1 s after the signal" in process.log()
            assert "Traceback" not in process.log()


def test_connections_in_the_backlog_are_served(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as process:
        process.send(signal.SIGSTOP)
        connections = [connect(process) for _ in range(20)]
        for connection in connections:
            connection.sendall(HEALTHZ)
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
        responses = [receive_all(connection) for connection in connections]
        for connection in connections:
            connection.close()

        assert process.exit_status() == 0

    assert [statuses(response) for response in responses] == [[b"200"]] * 20


def test_a_process_without_a_free_file_descriptor_ends_as_any_other(tmp_path: Path) -> None:
    command = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *SERVE)
    with gateway_process(tmp_path, command=command) as process, ExitStack() as stack:
        connections = [stack.enter_context(connect(process)) for _ in range(64)]
        connections[0].sendall(HEALTHZ)
        assert statuses(connections[0].recv(65536)) == [b"200"]

        assert process.stop() == 0
        assert "Traceback" not in process.log()


def test_sighup_is_ignored_under_nohup(tmp_path: Path) -> None:
    command = ("nohup", sys.executable, "-m", "contact_gateway", "serve")
    with gateway_process(tmp_path, command=command) as process:
        process.send(signal.SIGHUP)
        with process.client() as client:
            ready = client.get("/readyz")

        assert ready.status_code == 200
        assert process.stop() == 0


@pytest.mark.parametrize("is_first", [False, True], ids=["a process", "the first of a container"])
def test_a_process_that_is_starting_ends(tmp_path: Path, *, is_first: bool) -> None:
    """The kernel ignores signals without a handler that are sent to the process with id 1."""
    prefix = ("unshare", "--pid", "--fork") if is_first else ()
    if is_first and not _may_unshare():
        pytest.skip("unshare --pid is not permitted")
    with subprocess.Popen(
        (*prefix, sys.executable, "-m", "contact_gateway", "serve", "--port", "0"),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        number = _child_of(process.pid) if is_first else process.pid
        _wait_for_handler(number, signal.SIGTERM)
        os.kill(number, signal.SIGTERM)
        output = process.communicate(timeout=WATCHDOG_SECONDS)

    assert (process.returncode, output) == (0, ("", ""))


def _may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ("/usr/bin/env", "unshare", "--pid", "--fork", "true"), check=False, capture_output=True
        ).returncode
        == 0
    )


@retry(
    stop=stop_after_delay(WATCHDOG_SECONDS),
    wait=wait_fixed(0.01),
    retry=retry_if_result(lambda found: found is None),
)
def _child_of(process_id: int) -> int:
    children = child_processes(process_id)
    return children[0] if children else None  # type: ignore[return-value]  # repeated until found


@retry(
    stop=stop_after_delay(WATCHDOG_SECONDS),
    wait=wait_fixed(0.01),
    retry=retry_if_result(lambda is_handled: not is_handled),
)
def _wait_for_handler(process_id: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_command_that_is_starting_ends_with_the_status_of_the_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _never_ending_command(tmp_path) as process:
        # The last of the handlers that are set before the imports.
        _wait_for_handler(process.pid, signal.SIGTERM)
        process.send_signal(number)
        _, errors = process.communicate(timeout=WATCHDOG_SECONDS)

    assert (process.returncode, errors) == (128 + number, "")


def _never_ending_command(folder: Path) -> subprocess.Popen[str]:
    """Start a command that reads a pipe."""
    os.mkfifo(folder / "never.csv")
    return subprocess.Popen(
        (sys.executable, "-m", "contact_gateway", "advertisers", "import", "never.csv"),
        cwd=folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_command_that_reads_a_pipe_ends_with_the_status_of_the_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _never_ending_command(tmp_path) as process:
        pipe = _writer_of(tmp_path / "never.csv")
        process.send_signal(number)
        _, errors = process.communicate(timeout=WATCHDOG_SECONDS)
        os.close(pipe)

    assert process.returncode == 128 + number
    assert "Traceback" not in errors


@retry(
    stop=stop_after_delay(WATCHDOG_SECONDS),
    wait=wait_fixed(0.01),
    retry=retry_if_exception_type(OSError),
)
def _writer_of(pipe: Path) -> int:
    """Wait until a named pipe is being read; return its other end."""
    return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_an_interrupted_command_ends_also_if_a_thread_waits_for_ever(tmp_path: Path) -> None:
    """For a name server, for example. asyncio waits for the threads of its executor."""
    program = """
import asyncio, signal, threading
from contact_gateway import __main__, cli

async def wait():
    waiting = asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    signal.raise_signal(signal.SIGINT)
    await waiting

__main__._CLOSING_SECONDS = 0.1
cli.run = lambda: asyncio.run(wait())
__main__.run()
"""
    completed = subprocess.run(
        (sys.executable, "-c", program),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        timeout=WATCHDOG_SECONDS,
        check=False,
    )

    assert (completed.returncode, completed.stderr) == (128 + signal.SIGINT, b"")


@pytest.mark.parametrize(
    ("number", "cleaned"), [(signal.SIGINT, b""), (signal.SIGTERM, b"."), (signal.SIGHUP, b".")]
)
def test_only_a_second_ctrl_c_ends_a_command_before_it_has_cleaned_up(
    tmp_path: Path, number: signal.Signals, cleaned: bytes
) -> None:
    program = f"""
import os, signal
from contact_gateway import __main__, cli

def run():
    try:
        signal.raise_signal({number:d})
    finally:
        signal.raise_signal({number:d})
        os.write(1, b".")

cli.run = run
__main__.run()
"""
    completed = subprocess.run(
        (sys.executable, "-c", program),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        timeout=WATCHDOG_SECONDS,
        check=False,
    )

    assert (completed.returncode, completed.stdout) == (128 + number, cleaned)


def test_an_idle_connection_is_closed_after_the_keep_alive_time(tmp_path: Path) -> None:
    environment = {"CONTACT_GATEWAY_KEEP_ALIVE_SECONDS": "1"}
    with gateway_process(tmp_path, environment=environment) as process, connect(process) as idle:
        idle.sendall(HEALTHZ)
        response = receive_all(idle)

    assert statuses(response) == [b"200"]
    assert b"connection: close" not in response


@WORKERS
def test_all_interfaces_of_ipv6_include_ipv4(tmp_path: Path, workers: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with gateway_process(tmp_path, "--host", "::", "--workers", workers) as process:
        port = httpx.URL(process.address).port

        for host in ("127.0.0.1", "[::1]"):
            response = httpx.get(
                f"http://{host}:{port}/healthz", timeout=WATCHDOG_SECONDS, trust_env=False
            )
            assert response.status_code == 200


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


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--workers", "2") as process:
        (killed, kept) = process.workers(2)
        os.kill(killed, signal.SIGKILL)
        (first, second) = process.workers(2, without=killed)
        with process.client() as client:
            assert client.get("/readyz").status_code == 200

        assert kept in {first, second}
        assert process.stop() == 0
        assert f"worker {killed} ended with status -9; starting another" in process.log()


def test_workers_that_cannot_start_end_the_server_with_the_reason(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--workers", "2") as process:
        worker, _ = process.workers(2)
        with closing(sqlite3.connect(tmp_path / "contact-gateway.sqlite3")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        os.kill(worker, signal.SIGKILL)

        assert process.exit_status() == 1
        assert "Error: CONTACT_GATEWAY_DATABASE_URL: the database is at revision 9999" in (
            process.log()
        )


def test_workers_that_do_not_start_are_not_announced(tmp_path: Path) -> None:
    program = """
from contact_gateway.app import app_from_environment
from contact_gateway.server.process import Listeners, serve_with_workers
from contact_gateway.server.stopping import Timeouts

print(
    serve_with_workers(
        app_from_environment,
        Listeners(()),
        lambda: print("announced"),
        Timeouts(),
        workers=2,
        ended=lambda _: None,
    )
)
"""
    completed = subprocess.run(
        (sys.executable, "-c", program),
        cwd=tmp_path,
        env={**clean_environment(), "CONTACT_GATEWAY_PROFILE": "unknown"},
        stdout=subprocess.PIPE,
        timeout=WATCHDOG_SECONDS,
        check=True,
    )

    assert completed.stdout == b"False\n"


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """They would hold the address, and the next start would fail."""
    with gateway_process(tmp_path, "--workers", "2") as process:
        with process.client() as client:
            assert client.get("/readyz").status_code == 200
        process.send(signal.SIGKILL)

        _wait_until_connections_are_refused(process)
