"""Under systemd: the sockets that it passes to the process, and the states that it is sent."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from contact_gateway.server.listeners import UNREAD_TIMEOUT_SECONDS
from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT
from support.process import SERVE, gateway_process, refused_start
from support.programs import free_port, skip_or_fail
from support.raw_http import LAST_HEALTHZ, receive_all, statuses
from support.reverse_proxies import UNIX_SOCKET
from support.socket_activation import activated

UNIT = ROOT / "deploy" / "contact-gateway.socket"
WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "gateway.sock"))
        listener.listen()
        yield listener


def connect(listener: socket.socket) -> socket.socket:
    connection = socket.socket(listener.family)
    connection.settimeout(WATCHDOG_SECONDS)
    connection.connect(listener.getsockname())
    return connection


def status_on(listener: socket.socket) -> list[bytes]:
    """Return the status of a request to this listener."""
    with connect(listener) as connection:
        connection.sendall(LAST_HEALTHZ)
        return statuses(receive_all(connection))


class TestPassedSockets:
    @WORKERS
    def test_it_serves_on_all_of_them(
        self, tmp_path: Path, tcp: socket.socket, unix: socket.socket, workers: str
    ) -> None:
        with activated(tmp_path, tcp, unix, options=("--workers", workers)) as process:
            answers = [status_on(tcp), status_on(unix)]

            assert process.stop() == 0
            assert "Traceback" not in process.log()

        assert answers == [[b"200"], [b"200"]]
        assert process.listening == (
            f"http://127.0.0.1:{tcp.getsockname()[1]}, unix:{tmp_path}/gateway.sock"
        )
        assert (tmp_path / "gateway.sock").is_socket(), "it is systemd's"

    @pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such timeout")
    @WORKERS
    def test_a_connection_whose_client_does_not_read_has_a_timeout(
        self, tmp_path: Path, tcp: socket.socket, unix: socket.socket, workers: str
    ) -> None:
        with activated(tmp_path, tcp, unix, options=("--workers", workers)):
            assert status_on(tcp) == status_on(unix)

        # The process has the same socket. A test of the timeout itself would take a minute.
        timeout = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert timeout == 1_000 * UNREAD_TIMEOUT_SECONDS

    @WORKERS
    def test_a_restart_loses_no_connection(
        self, tmp_path: Path, tcp: socket.socket, workers: str
    ) -> None:
        options = ("--workers", workers)
        with activated(tmp_path, tcp, options=options) as process:
            assert process.stop() == 0
        with connect(tcp) as connection:
            connection.sendall(LAST_HEALTHZ)
            with activated(tmp_path, tcp, options=options):
                assert statuses(receive_all(connection)) == [b"200"]

    def test_they_replace_the_settings_of_a_host_and_a_port(
        self, tmp_path: Path, tcp: socket.socket
    ) -> None:
        environment = {"CONTACT_GATEWAY_HOST": "192.0.2.1", "CONTACT_GATEWAY_PORT": "1"}
        with activated(tmp_path, tcp, environment=environment) as process:
            assert process.address == f"http://127.0.0.1:{tcp.getsockname()[1]}"

    @pytest.mark.parametrize("option", [("--port", "0"), ("--uds", "x.sock")])
    def test_an_option_that_contradicts_them_is_refused(
        self, tmp_path: Path, tcp: socket.socket, option: tuple[str, str]
    ) -> None:
        refused = self.refused_start(tmp_path, tcp.fileno(), *option)

        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == (
            f"Error: {option[0]}: systemd has passed http://127.0.0.1:{tcp.getsockname()[1]} to "
            "listen on. Remove the options, or disable the socket unit.\n"
        )

    def test_those_of_another_process_are_ignored(self, tmp_path: Path, tcp: socket.socket) -> None:
        environment = {"LISTEN_PID": "1", "CONTACT_GATEWAY_PORT": "0"}
        with activated(tmp_path, tcp, environment=environment) as process:
            assert httpx.URL(process.address).port != tcp.getsockname()[1]

    def test_workers_do_not_inherit_their_variables(
        self, tmp_path: Path, tcp: socket.socket
    ) -> None:
        with activated(tmp_path, tcp, options=("--workers", "2")) as process:
            for worker in process.workers(2):
                environment = Path(f"/proc/{worker}/environ").read_bytes()
                assert b"LISTEN_" not in environment

    @pytest.mark.parametrize("kind", ["a datagram socket", "a connection", "a file"])
    def test_what_is_no_listener_is_reported(
        self, tmp_path: Path, tcp: socket.socket, kind: str
    ) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            connect(tcp) as connection,
            (tmp_path / "file").open("w", encoding="utf-8") as file,
        ):
            descriptors = {
                "a datagram socket": datagrams.fileno(),
                "a connection": connection.fileno(),
                "a file": file.fileno(),
            }
            refused = self.refused_start(tmp_path, descriptors[kind])

        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == (
            "Error: LISTEN_FDS: file descriptor 3 is not a listening stream socket. "
            "In the socket unit, use ListenStream= and Accept=no.\n"
        )

    def test_one_that_is_missing_is_reported(self, tmp_path: Path, tcp: socket.socket) -> None:
        refused = self.refused_start(tmp_path, tcp.fileno(), environment={"LISTEN_FDS": "2"})

        assert refused.returncode == 1
        assert "LISTEN_FDS: file descriptor 4 is not a listening stream socket" in refused.stderr

    def refused_start(
        self,
        folder: Path,
        descriptor: int,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return refused_start(
            folder,
            address=options,
            listeners=[descriptor],
            environment=environment,
        )


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        skip_or_fail(f"{name} is not installed")
    return program


def test_the_socket_unit_is_valid_and_has_the_documented_socket(tmp_path: Path) -> None:
    shutil.copy(UNIT, tmp_path)
    service = tmp_path / UNIT.with_suffix(".service").name
    service.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")

    verified = subprocess.run(
        (_program("systemd-analyze"), "verify", str(tmp_path / UNIT.name)),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    # Unknown options are only printed.
    assert (verified.returncode, verified.stderr) == (0, "")
    assert f"\nListenStream={UNIX_SOCKET}\n" in UNIT.read_text(encoding="utf-8")


def test_systemd_passes_its_sockets(tmp_path: Path) -> None:
    """systemd-socket-activate starts the gateway when the first connection arrives."""
    program = _program("systemd-socket-activate")
    port, path = free_port(), tmp_path / "gateway.sock"
    command = (
        *(program, "--listen", f"127.0.0.1:{port}", "--listen", str(path)),
        *("--fdname", "http:proxy", *SERVE),
    )

    @retry(
        retry=retry_if_exception_type(httpx.ConnectError),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(WATCHDOG_SECONDS),
    )
    def first_request() -> httpx.Response:
        url = f"http://127.0.0.1:{port}/healthz"
        return httpx.get(url, timeout=WATCHDOG_SECONDS, trust_env=False)

    with ThreadPoolExecutor(1) as caller:
        first = caller.submit(first_request)
        with gateway_process(tmp_path, command=command, address=()) as process:
            transport = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=transport, timeout=WATCHDOG_SECONDS) as client:
                second = client.get("http://gateway/healthz")

            assert first.result().status_code == 200
            assert second.status_code == 200
            assert process.listening == f"http://127.0.0.1:{port}, unix:{path}"
            assert process.stop() == 0


class TestStates:
    @pytest.mark.parametrize(
        ("workers", "is_abstract"),
        [
            pytest.param("1", False, id="one process"),
            pytest.param("2", False, id="two workers"),
            pytest.param("1", True, id="an abstract socket"),
        ],
    )
    def test_systemd_is_notified_of_the_start_and_the_stop(
        self, tmp_path: Path, workers: str, *, is_abstract: bool
    ) -> None:
        name = f"@contact-gateway-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
            manager.settimeout(WATCHDOG_SECONDS)
            manager.bind(name.replace("@", "\0"))
            with gateway_process(
                tmp_path, "--workers", workers, environment={"NOTIFY_SOCKET": name}
            ) as process:
                ready = manager.recv(4096)
                with process.client() as client:
                    response = client.get("/readyz")
                assert process.stop() == 0
                stopping = manager.recv(4096)
            manager.settimeout(0)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)

        assert (ready, stopping) == (b"READY=1", b"STOPPING=1")
        assert response.status_code == 200

    def test_a_manager_that_does_not_listen_is_logged(self, tmp_path: Path) -> None:
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with gateway_process(tmp_path, environment=environment) as process:
            assert process.stop() == 0

            log = process.log()

        assert "cannot send READY=1 to NOTIFY_SOCKET: No such file or directory" in log
