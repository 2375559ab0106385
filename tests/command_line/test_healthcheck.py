"""`contact-gateway healthcheck`: what it asks, where, and what it makes of the answers."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contact_gateway import healthcheck
from contact_gateway.cli import main
from support.process import GatewayProcess, clean_environment, gateway_process
from support.programs import free_port

PROGRAM = (sys.executable, "-m", "contact_gateway", "healthcheck")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def checked(*arguments: str, **environment: str) -> tuple[int, str]:
    """Return the status and the output of the program, both as a user starts it and by Typer."""
    quick = subprocess.run(
        (*PROGRAM, *arguments),
        env=clean_environment() | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    slow = CliRunner().invoke(main, ("healthcheck", *arguments), env=environment)
    assert (slow.exit_code, slow.output) == (quick.returncode, quick.stdout)
    return quick.returncode, quick.stdout


@contextmanager
def answering(listener: socket.socket, answer: bytes) -> Iterator[list[bytes]]:
    """Answer one connection; yield the list of what it sent."""
    received: list[bytes] = []

    def answer_each() -> None:
        # The program asks twice: see `checked`.
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(4096))
                connection.sendall(answer)

    thread = threading.Thread(target=answer_each)
    with listener:
        thread.start()
        yield received
        thread.join()


def port_of(gateway: GatewayProcess) -> str:
    return gateway.address.rpartition(":")[2]


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104
def test_the_settings_have_the_address(gateway: GatewayProcess, host: str) -> None:
    port = port_of(gateway)
    shown = host if host == "localhost" else "127.0.0.1"

    assert checked(CONTACT_GATEWAY_HOST=host, CONTACT_GATEWAY_PORT=port) == (
        0,
        f"http://{shown}:{port}/healthz answers 200.\n",
    )


def test_platforms_variables_and_the_env_file_have_it_too(
    gateway: GatewayProcess, folder: Path
) -> None:
    port = port_of(gateway)
    assert checked(HOST="0.0.0.0", PORT=port)[0] == 0  # noqa: S104
    (folder / ".env").write_text(f"CONTACT_GATEWAY_PORT={port}\n", encoding="utf-8")

    assert checked(PORT="1")[0] == 0


def test_kubernetes_variables_of_a_service_are_ignored(gateway: GatewayProcess) -> None:
    injected = {"CONTACT_GATEWAY_PORT": "tcp://10.96.0.1:80", "PORT": port_of(gateway)}

    assert checked(**injected)[0] == 0


@pytest.mark.parametrize("arguments", [("--ready",), ("--ready", "--url={}"), ("--url", "{}/")])
def test_the_url_and_readiness_are_options(
    gateway: GatewayProcess, arguments: tuple[str, ...]
) -> None:
    given = [each.format(gateway.address) for each in arguments]
    path = "/readyz" if "--ready" in arguments else "/healthz"

    assert checked(*given, CONTACT_GATEWAY_PORT=port_of(gateway)) == (
        0,
        f"{gateway.address}{path} answers 200.\n",
    )


def test_readiness_is_that_of_the_gateway() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with answering(listener, b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as received:
        found = checked("--ready", CONTACT_GATEWAY_PORT=str(port))

    assert found == (1, f"Error: http://127.0.0.1:{port}/readyz answers 503.\n")
    assert received[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_interfaces_are_asked_on_ipv6() -> None:
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    port = listener.getsockname()[1]
    with answering(listener, b"HTTP/1.1 200 OK\r\n\r\n"):
        found = checked(CONTACT_GATEWAY_HOST="::", CONTACT_GATEWAY_PORT=str(port))

    assert found == (0, f"http://[::1]:{port}/healthz answers 200.\n")


@pytest.mark.parametrize("variable", ["CONTACT_GATEWAY_ADMIN_HOST", "CONTACT_GATEWAY_HOST"])
def test_the_admin_port_is_asked_if_there_is_one(variable: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = str(listener.getsockname()[1])
    public = {"CONTACT_GATEWAY_HOST": "192.0.2.1", "CONTACT_GATEWAY_PORT": "1"}
    admin = {"CONTACT_GATEWAY_ADMIN_PORT": port, variable: "127.0.0.1"}
    with answering(listener, b"HTTP/1.1 200 OK\r\n\r\n"):
        assert checked(**(public | admin))[0] == 0


def test_a_unix_socket_is_an_option(folder: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("gateway.sock")
    listener.listen()
    with answering(listener, b"HTTP/1.1 200 OK\r\n\r\n"):
        found = checked("--uds", "gateway.sock")

    assert (folder / "gateway.sock").is_socket()
    assert found == (0, "gateway.sock, /healthz answers 200.\n")


@pytest.mark.parametrize(
    ("answer", "said"), [(b"", "in HTTP"), (b"SSH-2.0-OpenSSH\r\n", "in HTTP")]
)
def test_another_protocol_is_no_answer(answer: bytes, said: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with answering(listener, answer):
        status, output = checked(CONTACT_GATEWAY_PORT=str(listener.getsockname()[1]))

    assert (status, said in output) == (1, True)


def test_a_closed_port_is_no_answer() -> None:
    port = free_port()

    assert checked(CONTACT_GATEWAY_PORT=str(port)) == (
        1,
        f"Error: http://127.0.0.1:{port}/healthz does not answer: Connection refused.\n",
    )


def test_a_process_that_hangs_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "_TIMEOUT_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        health = healthcheck.check(healthcheck.Options(url=url))

    assert health == (False, f"{url}/healthz does not answer in 0.01 s.")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--url", "https://127.0.0.1"), {}, "--url: https://127.0.0.1 is not a URL such as"),
        (("--url", "http://[::1"), {}, "--url: http://[::1 is not a URL such as"),
        (("--url", "http://a", "--uds=b"), {}, "Use either --url or --uds."),
        (("--url", "http://nö..host"), {}, "http://nö..host:80/healthz does not answer: not a"),
        (("--uds", "\udcff"), {}, r"\udcff, /healthz does not answer: No such file"),
        ((), {"CONTACT_GATEWAY_PORT": "0"}, "CONTACT_GATEWAY_PORT is 0. Name the gateway's"),
        ((), {"CONTACT_GATEWAY_PORT": "http"}, "CONTACT_GATEWAY_PORT is http. Name the gateway's"),
        ((), {"CONTACT_GATEWAY_ADMIN_PORT": "65536"}, "CONTACT_GATEWAY_ADMIN_PORT is 65536. Name"),
        ((), {"PORT": "99999"}, "PORT is 99999. Name the gateway's"),
    ],
)
def test_an_unusable_address_is_an_error(
    arguments: tuple[str, ...], environment: Mapping[str, str], said: str
) -> None:
    status, output = checked(*arguments, **environment)

    assert status == 1
    assert output.startswith(f"Error: {said}")


@pytest.mark.parametrize("arguments", [("--help",), ("--unknown",), ("http://a",)])
def test_the_command_line_reads_all_other_arguments(arguments: tuple[str, ...]) -> None:
    shown = subprocess.run(
        (*PROGRAM, *arguments), env=clean_environment(), capture_output=True, text=True, check=False
    )

    assert "Usage: contact-gateway healthcheck" in shown.stdout + shown.stderr


def test_the_status_counts_if_nothing_can_be_written(gateway: GatewayProcess) -> None:
    full = Path("/dev/full")
    with full.open("w", encoding="utf-8") as output:
        status = subprocess.run(
            (*PROGRAM, "--url", gateway.address),
            env=clean_environment(),
            stdout=output,
            check=False,
        ).returncode

    assert status == 0


def test_it_imports_little(gateway: GatewayProcess) -> None:
    script = f"""
import sys
from contact_gateway import __main__
sys.argv = ["contact-gateway", "healthcheck", "--url", "{gateway.address}"]
try:
    __main__.run()
except SystemExit:
    print(sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    loaded = subprocess.run(
        (sys.executable, "-c", script),
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "'contact_gateway'" in loaded
    for slow in ("asyncio", "dotenv", "email", "http", "pydantic", "rich", "sqlalchemy", "typer"):
        assert f"'{slow}'" not in loaded
