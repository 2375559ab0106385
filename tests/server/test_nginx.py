"""Behind nginx, configured as docs/operating.md says: prefixes, addresses, and a rolling update."""

import itertools
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT, blocks_of
from support.gateway import Store, credentials, filled_store
from support.process import GatewayProcess, gateway_process
from support.programs import free_port, skip_or_fail

_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
TRUSTED = {"CONTACT_GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32"}
CLIENTS = 4
REQUESTS_BETWEEN = 100


class Nginx:
    """nginx with the documentation's configuration, in front of some gateways."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def configure(self, *gateways: GatewayProcess) -> None:
        """Write the configuration of nginx. The documentation has that of the site."""
        (site,) = (
            block.text
            for block in blocks_of(ROOT / "docs" / "operating.md")
            if block.language == "nginx"
        )
        servers = "".join(
            f"    server {httpx.URL(each.address).netloc.decode()};\n" for each in gateways
        )
        site = re.sub(r"(    server 127.*;\n)+", servers, site, count=1)
        site = site.replace("listen 8080", f"listen 127.0.0.1:{self._port}")
        temporary = "".join(
            f"{kind}_temp_path {self._folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off;\npid {self._folder}/pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
            encoding="utf-8",
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        if _NGINX is None:
            skip_or_fail("nginx is not installed")
        command = (_NGINX, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"))
        log = self._folder / "nginx.log"
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(command, stderr=file) as self._process,
        ):
            try:
                self._wait()
                yield
            finally:
                self._process.terminate()

    def reload(self) -> None:
        """Load the configuration again. Workers with the earlier one finish their requests."""
        self._process.send_signal(signal.SIGHUP)

    @retry(
        retry=retry_if_exception_type(httpx.ConnectError),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(WATCHDOG_SECONDS),
    )
    def _wait(self) -> None:
        assert self._process.poll() is None, (self._folder / "nginx.log").read_text("utf-8")
        httpx.get(self.url, trust_env=False)

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """Return a client with this address, and with a connection for each request.

        nginx closes idle connections of clients when it is reloaded, which may meet a request.
        """
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(local_address=address, trust_env=False, limits=limits)
        return httpx.Client(base_url=self.url, timeout=WATCHDOG_SECONDS, transport=transport)


@pytest.fixture
def nginx(tmp_path: Path) -> Nginx:
    folder = tmp_path / "nginx"
    folder.mkdir()
    return Nginx(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


def _contact(name: str) -> dict[str, object]:
    return {"contact": {"advertiser_id": 2001, "email": f"{name}@example.com"}}


def test_addresses_lead_back_through_the_proxy(nginx: Nginx, store: Store) -> None:
    with gateway_process(store.folder, store=store, environment=TRUSTED) as gateway:
        nginx.configure(gateway)
        with nginx.running(), nginx.client() as client:
            client.headers.update(credentials(store.keys["admin"]))
            created = client.post("/gw/api/v1/contacts", json=_contact("maya"))
            found = client.get(created.headers["Location"])
            schema = client.get("/gw/api/v1/schema").json()
            page = client.get("/gw/graphql", headers={"Accept": "text/html"}).text
            links = re.findall(r'(?:src|href)="([^"]*)"', page)
            files = [client.get(httpx.URL("/gw/graphql").join(link)) for link in links]

    assert created.status_code == 201
    assert found.json()["data"] == created.json()["data"]
    assert schema["servers"] == [{"url": "/gw/api/v1"}]
    assert {file.status_code for file in files} == {200}
    assert len(files) == 7


@pytest.mark.parametrize(
    ("header", "made_up"),
    [
        ("X-Forwarded-For", "192.0.2.{}"),
        ("X-Real-IP", "192.0.2.{}"),
        ("Forwarded", "for=192.0.2.{}"),
    ],
)
def test_a_client_cannot_choose_its_address(
    nginx: Nginx, store: Store, header: str, made_up: str
) -> None:
    """Wrong keys from many made-up addresses are those of one client."""
    environment = TRUSTED | {"CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE": "3"}
    with gateway_process(store.folder, store=store, environment=environment) as gateway:
        nginx.configure(gateway)
        with nginx.running(), nginx.client("127.0.0.2") as client:
            answers = [
                client.get(
                    "/gw/api/v1/contacts",
                    headers={
                        **credentials(store.keys["unknown"]),
                        header: made_up.format(number),
                    },
                ).status_code
                for number in range(20)
            ]

    # The minute may end meanwhile.
    assert set(answers) == {401, 429}
    assert answers.count(401) < 10


def test_a_rolling_update_fails_no_request(nginx: Nginx, store: Store) -> None:
    """Drain a process, take it out of nginx, start another: as docs/operating.md says."""
    environment = TRUSTED | {
        "CONTACT_GATEWAY_DRAIN_SECONDS": "3",
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    }
    stop = Event()
    numbers = itertools.count()
    done: list[int] = []

    def create_contacts(client_number: int) -> None:
        with nginx.client() as client:
            client.headers.update(credentials(store.keys["admin"]))
            while not stop.is_set():
                contact = _contact(f"c{client_number}-{next(numbers)}")
                done.append(client.post("/gw/api/v1/contacts", json=contact).status_code)

    def answers_more() -> None:
        target = len(done) + REQUESTS_BETWEEN
        while len(done) < target and not stop.wait(0.01):
            pass

    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as clients:

        def start() -> GatewayProcess:
            return stack.enter_context(
                gateway_process(store.folder, store=store, environment=environment)
            )

        running = [start(), start()]
        nginx.configure(*running)
        stack.enter_context(nginx.running())
        tasks = [clients.submit(create_contacts, number) for number in range(CLIENTS)]
        stack.callback(stop.set)
        answers_more()
        for old in tuple(running):
            old.send(signal.SIGTERM)
            running.remove(old)
            nginx.configure(*running)
            nginx.reload()
            assert old.exit_status() == 0
            running.append(start())
            nginx.configure(*running)
            nginx.reload()
            answers_more()
        stop.set()
        for task in tasks:
            task.result()

    assert len(done) >= 3 * REQUESTS_BETWEEN
    assert set(done) == {201}
