"""`contact-gateway serve --uds`: a Unix socket for the processes of one user and group."""

import os
import signal
import socket
import stat
from pathlib import Path

import httpx
import pytest

from support.clock import WATCHDOG_SECONDS
from support.gateway import Store, credentials, filled_store
from support.process import gateway_process, refused_start

NAME = "gateway.sock"
ADDRESS = ("--uds", NAME)
LIMIT = {"CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE": "3"}
TRUSTED = {"CONTACT_GATEWAY_TRUSTED_PROXIES": "unix"}
WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


def client(path: Path, **headers: str) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(
        transport=transport, base_url="http://gateway", headers=headers, timeout=WATCHDOG_SECONDS
    )


def create(path: Path, store: Store, email: str = "maya@example.com") -> httpx.Response:
    with client(path, **credentials(store.keys["admin"])) as caller:
        return caller.post(
            "/api/v1/contacts", json={"contact": {"advertiser_id": 2001, "email": email}}
        )


@WORKERS
def test_it_serves_on_a_socket_that_is_there_until_it_ends(store: Store, workers: str) -> None:
    path = store.folder / NAME
    with gateway_process(
        store.folder, "--workers", workers, store=store, address=ADDRESS
    ) as process:
        created = create(path, store)

        assert process.stop() == 0
        assert "Traceback" not in process.log()

    assert created.status_code == 201
    assert created.headers["Location"] == "/api/v1/contacts/1"
    assert not path.exists()


def test_only_its_user_and_group_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        with gateway_process(tmp_path, address=ADDRESS):
            mode = (tmp_path / NAME).stat().st_mode
    finally:
        os.umask(earlier)

    assert stat.S_IMODE(mode) == 0o660


def test_the_start_announces_the_socket(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--demo", address=ADDRESS) as process:
        announced = process.listening

    assert announced == f"unix:{NAME}"


def test_the_socket_of_a_killed_process_is_replaced(store: Store) -> None:
    path = store.folder / NAME
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    with gateway_process(store.folder, store=store, address=ADDRESS):
        assert create(path, store).status_code == 201


def test_the_socket_of_a_running_process_is_left_alone(store: Store) -> None:
    path = store.folder / NAME
    with gateway_process(store.folder, store=store, address=ADDRESS):
        refused = refused_start(store.folder, address=ADDRESS)

        assert create(path, store).status_code == 201

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"Error: --uds: cannot listen on {NAME}: Address already in use. Stop the process that "
        "listens on it, or choose another path.\n"
    )


def test_the_socket_of_a_process_that_does_not_accept_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(tmp_path / NAME))
        busy.listen(0)
        waiting.connect(str(tmp_path / NAME))

        refused = refused_start(tmp_path, address=ADDRESS)

    assert "Address already in use" in refused.stderr
    assert (tmp_path / NAME).is_socket()


def test_a_process_that_ends_leaves_the_socket_of_the_next_one(store: Store) -> None:
    """The next one may start while this one completes its last requests."""
    path = store.folder / NAME
    with gateway_process(store.folder, store=store, address=ADDRESS) as process:
        path.unlink()
        with gateway_process(store.folder, store=store, address=ADDRESS):
            assert process.stop() == 0

            assert create(path, store).status_code == 201


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("notes.txt", "it exists and is not a socket", id="a file"),
        pytest.param("no-folder/gateway.sock", "No such file or directory", id="no folder"),
        pytest.param("g" * 108, "AF_UNIX path too long", id="a long path"),
        pytest.param("", "it exists and is not a socket", id="no path"),
    ],
)
def test_a_path_that_cannot_be_used_is_reported(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "notes.txt").write_text("keep me", encoding="utf-8")

    refused = refused_start(tmp_path, address=("--uds", path))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"Error: --uds: cannot listen on {path or '.'}: {reason}.\n"
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param(("--port", "0"), "--port, --uds", id="a port"),
        pytest.param(("--host", "::"), "--host, --uds", id="a host"),
    ],
)
def test_a_host_or_a_port_beside_it_is_refused(
    tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    refused = refused_start(tmp_path, *options, address=ADDRESS)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"Error: {named}: use either --uds, or --host and --port.\n"


def test_settings_of_a_host_and_a_port_do_not_contradict_it(tmp_path: Path) -> None:
    environment = {"CONTACT_GATEWAY_HOST": "::", "CONTACT_GATEWAY_PORT": "8000"}
    with gateway_process(tmp_path, address=ADDRESS, environment=environment):
        assert (tmp_path / NAME).is_socket()


def test_a_request_in_flight_is_answered_at_the_stop(tmp_path: Path) -> None:
    """So is one in the backlog of the socket."""
    with gateway_process(tmp_path, address=ADDRESS) as process:
        process.send(signal.SIGSTOP)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / NAME))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)

            assert connection.recv(12) == b"HTTP/1.1 200"
        assert process.exit_status() == 0


def _wrong_keys(path: Path, store: Store, count: int) -> list[int]:
    """Send wrong keys, each on behalf of another client; return the statuses."""
    with client(path, **credentials(store.keys["unknown"])) as caller:
        return [
            caller.get(
                "/api/v1/contacts", headers={"X-Forwarded-For": f"192.0.2.{number}"}
            ).status_code
            for number in range(count)
        ]


def _prefix(path: Path) -> str:
    with client(path, **{"X-Forwarded-Prefix": "/gw"}) as caller:
        return str(caller.get("/api/v1/schema").json()["servers"][0]["url"])


def test_its_peers_count_as_one_address_that_may_not_name_others(store: Store) -> None:
    """Even if a network is trusted: a Unix socket is in none."""
    path = store.folder / NAME
    environment = LIMIT | {"CONTACT_GATEWAY_TRUSTED_PROXIES": "0.0.0.0/0, ::/0"}
    with gateway_process(store.folder, store=store, address=ADDRESS, environment=environment):
        statuses = _wrong_keys(path, store, 20)
        prefix = _prefix(path)

    # The minute may end meanwhile.
    assert set(statuses) == {401, 429}
    assert statuses.count(401) < 10
    assert prefix == "/api/v1"


def test_a_trusted_peer_names_its_client(store: Store) -> None:
    path = store.folder / NAME
    environment = LIMIT | TRUSTED
    with gateway_process(store.folder, store=store, address=ADDRESS, environment=environment):
        statuses = _wrong_keys(path, store, 20)
        prefix = _prefix(path)

    assert statuses == [401] * 20
    assert prefix == "/gw/api/v1"
