"""Behind nginx and Caddy: prefixes, addresses, Unix sockets, and a rolling update."""

import itertools
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from support.gateway import Store, credentials, filled_store
from support.process import GatewayProcess, gateway_process
from support.reverse_proxies import Caddy, Nginx, ReverseProxy
from support.socket_activation import activated

TRUSTED = {"CONTACT_GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32"}
UNLIMITED = {"CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0"}
UNIX_TRUSTED = {"CONTACT_GATEWAY_TRUSTED_PROXIES": "unix"}
CLIENTS = 4
REQUESTS_BETWEEN = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "proxy"
    folder.mkdir()
    return folder


@pytest.fixture
def nginx(folder: Path) -> Nginx:
    return Nginx(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


@contextmanager
def _behind(
    proxy: ReverseProxy, store: Store, *, uds: bool, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a gateway behind a proxy, connected by TCP or by a Unix socket."""
    path = store.folder / "gateway.sock"
    settings = (UNIX_TRUSTED if uds else TRUSTED) | dict(environment or {})
    address = ("--uds", str(path)) if uds else ("--port", "0")
    with gateway_process(
        store.folder, store=store, environment=settings, address=address
    ) as gateway:
        proxy.configure(path if uds else gateway.address)
        with proxy.running():
            yield


PROXIES = pytest.mark.parametrize("kind", [Nginx, Caddy], ids=["nginx", "Caddy"])
SOCKETS = pytest.mark.parametrize("uds", [False, True], ids=["TCP", "a Unix socket"])


def _contact(name: str) -> dict[str, object]:
    return {"contact": {"advertiser_id": 2001, "email": f"{name}@example.com"}}


@PROXIES
@SOCKETS
def test_addresses_lead_back_through_the_proxy(
    kind: type[ReverseProxy], folder: Path, store: Store, *, uds: bool
) -> None:
    proxy = kind(folder)
    with _behind(proxy, store, uds=uds), proxy.client() as client:
        client.headers.update(credentials(store.keys["admin"]))
        created = client.post("/gw/api/v1/contacts", json=_contact("maya"))
        found = client.get(created.headers["Location"])
        schema = client.get("/gw/api/v1/schema").json()
        page = client.get("/gw/graphql", headers={"Accept": "text/html"}).text
        links = re.findall(r'(?:src|href)="([^"]*)"', page)
        files = [client.get(httpx.URL("/gw/graphql").join(link)) for link in links]

    assert created.status_code == 201
    assert found.json()["data"] == created.json()["data"]
    assert schema["servers"] == [{"url": str(client.base_url.join("/gw/api/v1"))}]
    assert {file.status_code for file in files} == {200}
    assert len(files) == 7


@PROXIES
@SOCKETS
def test_a_client_has_its_own_address_and_cannot_choose_it(
    kind: type[ReverseProxy], folder: Path, store: Store, *, uds: bool
) -> None:
    """Wrong keys from many made-up addresses are those of one client, and of no other."""
    proxy = kind(folder)
    limit = {"CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE": "3"}
    wrong = credentials(store.keys["unknown"])
    with _behind(proxy, store, uds=uds, environment=limit), proxy.client("127.0.0.2") as client:
        for header, made_up in (
            ("X-Forwarded-For", "192.0.2.{}"),
            ("X-Real-IP", "192.0.2.{}"),
            ("Forwarded", "for=192.0.2.{}"),
        ):
            answers = [
                client.get(
                    "/gw/api/v1/contacts", headers={**wrong, header: made_up.format(number)}
                ).status_code
                for number in range(20)
            ]

            # The minute may end meanwhile.
            assert 429 in answers
            assert answers.count(401) < 10
        with proxy.client("127.0.0.3") as other:
            assert other.get("/gw/api/v1/contacts", headers=wrong).status_code == 401


class _Clients:
    """Clients of a proxy that create contacts until they are stopped."""

    def __init__(self, proxy: ReverseProxy, store: Store) -> None:
        self._proxy = proxy
        self._key = credentials(store.keys["admin"])
        self._stop = Event()
        self._numbers = itertools.count()
        self.statuses: list[int] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(CLIENTS) as clients:
            self._tasks = [clients.submit(self._create_contacts) for _ in range(CLIENTS)]
            try:
                self.wait_for_answers()
                yield
            finally:
                self._stop.set()

    def finish(self) -> None:
        """Stop the clients, and raise their errors. The gateway must still run."""
        self._stop.set()
        for task in self._tasks:
            task.result()

    def _create_contacts(self) -> None:
        with self._proxy.client() as client:
            client.headers.update(self._key)
            while not self._stop.is_set():
                contact = _contact(f"c{next(self._numbers)}")
                response = client.post("/gw/api/v1/contacts", json=contact)
                self.statuses.append(response.status_code)

    def wait_for_answers(self) -> None:
        """Wait until the clients have got some more answers."""
        target = len(self.statuses) + REQUESTS_BETWEEN
        while len(self.statuses) < target and not self._stop.wait(0.01):
            assert not all(task.done() for task in self._tasks), "the clients have failed"


def test_a_rolling_update_fails_no_request(nginx: Nginx, store: Store) -> None:
    """Drain a process, take it out of nginx, start another: as docs/operating.md says."""
    environment = TRUSTED | UNLIMITED | {"CONTACT_GATEWAY_DRAIN_SECONDS": "3"}
    clients = _Clients(nginx, store)
    with ExitStack() as stack:

        def start() -> GatewayProcess:
            return stack.enter_context(
                gateway_process(store.folder, store=store, environment=environment)
            )

        running = [start(), start()]
        nginx.configure(*(each.address for each in running))
        stack.enter_context(nginx.running())
        stack.enter_context(clients.running())
        for old in tuple(running):
            old.send(signal.SIGTERM)
            running.remove(old)
            nginx.configure(*(each.address for each in running))
            nginx.reload()
            assert old.exit_status() == 0
            running.append(start())
            nginx.configure(*(each.address for each in running))
            nginx.reload()
            clients.wait_for_answers()
        clients.finish()

    assert len(clients.statuses) >= 3 * REQUESTS_BETWEEN
    assert set(clients.statuses) == {201}


def test_a_drain_behind_caddy_fails_no_request(folder: Path, store: Store) -> None:
    """Caddy's next health check finds the process draining, and sends it no more requests."""
    environment = TRUSTED | UNLIMITED | {"CONTACT_GATEWAY_DRAIN_SECONDS": "5"}
    caddy = Caddy(folder)
    clients = _Clients(caddy, store)
    with ExitStack() as stack:
        running = [
            stack.enter_context(gateway_process(store.folder, store=store, environment=environment))
            for _ in range(2)
        ]
        caddy.configure(*(each.address for each in running))
        stack.enter_context(caddy.running())
        stack.enter_context(clients.running())
        running[0].send(signal.SIGTERM)
        assert running[0].exit_status() == 0
        clients.wait_for_answers()
        clients.finish()

    assert set(clients.statuses) == {201}


def test_a_restart_with_socket_activation_fails_no_request(nginx: Nginx, store: Store) -> None:
    """Requests that arrive while no process runs wait in systemd's socket."""
    path = store.folder / "gateway.sock"
    clients = _Clients(nginx, store)
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen()

        def start() -> GatewayProcess:
            return stack.enter_context(
                activated(store.folder, listener, store=store, environment=UNIX_TRUSTED | UNLIMITED)
            )

        running = start()
        nginx.configure(path)
        stack.enter_context(nginx.running())
        stack.enter_context(clients.running())
        for _ in range(2):
            assert running.stop() == 0
            running = start()
            clients.wait_for_answers()
        clients.finish()

    assert len(clients.statuses) >= 3 * REQUESTS_BETWEEN
    assert set(clients.statuses) == {201}
