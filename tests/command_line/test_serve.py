"""`contact-gateway serve` as a process: its announcement, its demo, its errors, its log."""

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from contact_gateway.database_url import parse_database_url
from contact_gateway.server import process as server_process
from contact_gateway.server.process import Listeners
from contact_gateway.server.stopping import Timeouts
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, databases_on, new_database, plain_connection, read_only
from support.process import (
    SERVE,
    Command,
    GatewayProcess,
    clean_environment,
    gateway_process,
    refused_start,
)

DEMO_ADVERTISERS = {
    *("1001", "1002", "1003", "9007199254740993", "3001"),
    *("2001", "2002", "2003", "2004", "2005", "2006"),
}
CREATE_CONTACT = """
mutation CreateContact($input: CreateContactInput!) {
  createContact(input: $input) { __typename ... on Contact { advertiserId email } }
}
"""


def test_what_only_some_need_is_not_imported_by_all(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from contact_gateway import app, cli\n"
        "from contact_gateway.settings import Settings\n"
        "app.create_app(Settings())\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ran = subprocess.run(
        (sys.executable, "-c", program),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    imported = set(ran.stdout.split())
    assert {"contact_gateway", "sqlalchemy", "strawberry"} <= imported
    # For migrations, HiEnergy, agents, traces and PostgreSQL.
    assert imported.isdisjoint({"alembic", "aiohttp", "mcp", "opentelemetry", "psycopg"})


def create_by_rest(client: httpx.Client, email: str) -> httpx.Response:
    return client.post(
        "/api/v1/contacts", json={"contact": {"advertiser_id": 2001, "email": email}}
    )


def create_by_graphql(client: httpx.Client, email: str) -> httpx.Response:
    variables = {"input": {"advertiserId": 2001, "email": email}}
    return client.post("/graphql", json={"query": CREATE_CONTACT, "variables": variables})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("demo"), "--demo") as process:
        yield process


class TestDemo:
    def test_it_announces_an_address_on_the_loopback_interface(self, demo: GatewayProcess) -> None:
        with demo.client() as client:
            assert client.base_url.host == "127.0.0.1"
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200

    @pytest.mark.parametrize("role", ["admin", "member"])
    def test_it_prints_a_valid_key_of_each_role(self, demo: GatewayProcess, role: str) -> None:
        key = {"admin": demo.admin_key, "member": demo.member_key}[role]

        with demo.client(key) as client:
            response = client.post("/graphql", json={"query": "{ viewer { role } }"})

        assert response.json() == {"data": {"viewer": {"role": role.upper()}}}

    def test_it_serves_the_catalogue(self, demo: GatewayProcess) -> None:
        with demo.client(demo.member_key) as client:
            page = client.get("/api/v1/advertisers").json()

        assert {record["id"] for record in page["data"]} == DEMO_ADVERTISERS

    def test_a_contact_is_created_by_rest(self, demo: GatewayProcess) -> None:
        with demo.client(demo.admin_key) as client:
            response = create_by_rest(client, "rest@example.com")
            found = client.get(response.headers["Location"])

        assert response.status_code == 201
        assert response.json()["data"]["attributes"]["advertiser_id"] == 1001
        assert found.json()["data"] == response.json()["data"]

    def test_a_contact_is_created_by_graphql(self, demo: GatewayProcess) -> None:
        with demo.client(demo.admin_key) as client:
            response = create_by_graphql(client, "graphql@example.com")

        assert response.status_code == 200
        assert response.json() == {
            "data": {
                "createContact": {
                    "__typename": "Contact",
                    "advertiserId": "1001",
                    "email": "graphql@example.com",
                }
            }
        }

    def test_a_second_demo_keeps_the_contacts_and_keys_of_the_first(self, tmp_path: Path) -> None:
        second_log = tmp_path / "second"
        second_log.mkdir()
        database = {
            "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/contacts.sqlite3"
        }
        with gateway_process(tmp_path, "--demo", environment=database) as first:
            with first.client(first.admin_key) as client:
                created = create_by_rest(client, "maya@example.com")
            with gateway_process(second_log, "--demo", environment=database) as second:
                answers = [
                    httpx.get(
                        f"{process.address}/api/v1/contacts",
                        headers={"X-Api-Key": key},
                        trust_env=False,
                        timeout=WATCHDOG_SECONDS,
                    )
                    for process in (first, second)
                    for key in (first.admin_key, first.member_key, second.member_key)
                ]

        assert [answer.json().get("data") for answer in answers] == [[created.json()["data"]]] * 6

    def test_its_keys_expire_after_thirty_days(self, run: Command, folder: Path) -> None:
        with gateway_process(folder, "--demo"):
            pass

        lifetimes = [
            datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
            for key in json.loads(run("keys", "list", "--json").stdout)
        ]

        assert [round(lifetime / timedelta(days=1), 1) for lifetime in lifetimes] == [30, 30]

    def test_a_start_without_it_revokes_its_keys(
        self, run: Command, folder: Path, database_url: str
    ) -> None:
        environment = {"CONTACT_GATEWAY_DATABASE_URL": database_url}
        with gateway_process(folder, "--demo", environment=environment) as demo:
            keys = demo.admin_key, demo.member_key
        (folder / "x.csv").write_text("id,name,network_name\n1,Tern,HiEnergy\n", "utf-8")
        run("advertisers", "import", "x.csv")
        own_key = run("keys", "create", "--role", "admin", "--label", "x").stdout.strip()

        with (
            gateway_process(folder, environment=environment) as process,
            process.client() as client,
        ):
            responses = [
                client.get("/api/v1/contacts", headers={"X-Api-Key": key})
                for key in (*keys, own_key)
            ]

        assert [response.status_code for response in responses] == [401, 401, 200]
        assert ["revoked" in response.text for response in responses] == [True, True, False]

    @pytest.mark.parametrize(
        ("options", "environment", "are_revoked"),
        [
            pytest.param(("--workers", "2"), {}, True, id="several workers"),
            pytest.param(
                (),
                {"CONTACT_GATEWAY_UPSTREAM_URL": "https://upstream.example"},
                False,
                id="in front of an upstream",
            ),
        ],
    )
    def test_its_keys_are_revoked_before_the_first_request(
        self,
        run: Command,
        folder: Path,
        options: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        are_revoked: bool,
    ) -> None:
        with gateway_process(folder, "--demo"):
            pass

        with gateway_process(folder, *options, environment=environment) as process:
            listed = run("keys", "list").stdout.splitlines()[1:]
            exit_status = process.stop()

        revoked = [line.split()[-1] != "-" for line in listed]
        assert exit_status == 0
        assert revoked == [are_revoked] * 2

    @pytest.mark.parametrize("content", ["a key", "a revoked key", "other advertisers"])
    def test_it_is_refused_on_a_database_with_other_content(
        self, run: Command, folder: Path, content: str
    ) -> None:
        if content == "other advertisers":
            (folder / "x.csv").write_text("id,name,network_name\n1,Tern,HiEnergy\n", "utf-8")
            run("advertisers", "import", "x.csv")
        else:
            run("keys", "create", "--role", "member", "--label", "of a person")
        if content == "a revoked key":
            run("keys", "revoke", "1")
        keys_before = run("keys", "list").stdout

        result = refused_start(folder, "--demo")

        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: --demo: ")
        assert result.stderr.endswith("or start without --demo.\n")
        assert "CONTACT_GATEWAY_DATABASE_URL" in result.stderr
        assert run("keys", "list").stdout == keys_before


@pytest.fixture
def announcing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `serve` print its announcement without serving."""

    def serve(
        _app: Starlette, _listeners: Listeners, announce: Callable[[], None], _: Timeouts
    ) -> bool:
        announce()
        return True

    monkeypatch.setattr(server_process, "serve", serve)


@pytest.mark.parametrize("shared", ["", "redis://127.0.0.1:6379/0"])
def test_workers_that_count_separately_are_announced(
    run: Command, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setattr(server_process, "serve_with_workers", lambda *_, **__: True)
    monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", shared)

    result = run("serve", "--port", "0", "--workers", "2")

    assert result.exit_code == 0
    assert ("separately" in result.stderr) is not bool(shared)


@pytest.mark.usefixtures("announcing_only")
@pytest.mark.parametrize("profile", ["development", "production"])
def test_the_pages_that_are_served_are_announced(
    run: Command, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_PROFILE", profile)

    graphql, rest, *_ = run("serve", "--port", "0").stdout.strip().splitlines()

    assert ("GraphiQL" in graphql) is (profile == "development")
    assert rest.endswith("/docs)") is (profile == "development")


@pytest.mark.usefixtures("announcing_only")
def test_the_proxy_to_upstream_is_announced_without_its_password(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "https://upstream.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:secret@proxy.example:3128")

    announced = run("serve", "--port", "0").stdout

    assert "Proxy       http://proxy.example:3128" in announced
    assert "secret" not in announced


@pytest.mark.usefixtures("announcing_only")
@pytest.mark.parametrize("is_read_only", [True, False], ids=["read-only", "writable"])
def test_a_server_that_is_read_only_is_announced(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_read_only: bool
) -> None:
    with databases_on(Engine.POSTGRESQL):
        url = new_database(folder)
        monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)
        run("migrate")
        if is_read_only:
            monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", read_only(url))

        result = run("serve", "--port", "0")

    warning = "Warning: the server of CONTACT_GATEWAY_DATABASE_URL is read-only"
    assert (result.exit_code, "Database" in result.stdout) == (0, True)
    assert (warning in " ".join(result.stderr.split())) is is_read_only


class TestRefusedStart:
    def test_an_address_in_use_is_reported_with_its_setting_and_its_option(
        self, run: Command
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            result = run("serve", "--port", str(port))

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            f"Error: CONTACT_GATEWAY_HOST, --port: cannot listen on 127.0.0.1:{port}: "
            "Address already in use. Stop the process that listens on it, or choose another port.\n"
        )

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_admin_port_in_use_is_reported_with_its_settings(
        self, run: Command, monkeypatch: pytest.MonkeyPatch, workers: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            monkeypatch.setenv("CONTACT_GATEWAY_ADMIN_PORT", str(port))

            result = run("serve", "--port", "0", "--workers", workers)

        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            "Error: CONTACT_GATEWAY_ADMIN_HOST, CONTACT_GATEWAY_ADMIN_PORT: "
            f"cannot listen on 127.0.0.1:{port}: "
        ) in result.stderr

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "no..host", "nö..host"])
    def test_an_address_of_another_machine_is_reported_with_its_options(
        self, run: Command, host: str
    ) -> None:
        result = run("serve", "--host", host, "--port", "0")

        assert (result.exit_code, result.stdout) == (1, "")
        assert f"--host, --port: cannot listen on {host}:0" in result.stderr
        assert "Unknown error" not in result.stderr

    def test_a_database_that_cannot_be_opened_is_reported_with_its_setting(
        self, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "sqlite+aiosqlite:///no-folder/gateway.db"
        monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)

        result = run("serve", "--port", "0")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: CONTACT_GATEWAY_DATABASE_URL: the database does not answer: "
            "no-folder/gateway.db: unable to open database file. Run `contact-gateway doctor`.\n"
        )

    def test_an_empty_host_is_reported_with_its_option(self, run: Command) -> None:
        result = run("serve", "--host", "", "--port", "0")

        assert (result.exit_code, result.stdout) == (2, "")
        assert "It is empty." in result.stderr

    def test_a_demo_in_front_of_hienergy_is_refused_by_its_name(
        self, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "https://upstream.example")

        result = run("serve", "--demo")

        assert (result.exit_code, result.stdout) == (1, "")
        assert "UPSTREAM_URL: --demo is for the gateway's own database" in result.stderr

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_unusable_proxy_is_reported_with_its_variable(
        self, run: Command, workers: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "https://upstream.example")
        monkeypatch.setenv("HTTPS_PROXY", "socks5://someone:secret@proxy.example:1080")

        result = run("serve", "--port", "0", "--workers", workers)

        assert (result.exit_code, result.stdout) == (1, "")
        assert "Error: HTTPS_PROXY: it must be the URL of an HTTP proxy" in result.stderr
        assert "secret" not in result.stderr

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_unusable_exporter_of_traces_is_reported_with_its_variable(
        self, run: Command, workers: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTACT_GATEWAY_TRACES", "true")
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

        result = run("serve", "--port", "0", "--workers", workers)

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: OTEL_TRACES_EXPORTER: ")

    @pytest.mark.parametrize(
        "option",
        [
            ("--port", "65536"),
            ("--port", "http"),
            ("--workers", "0"),
            ("--host", ""),
            ("--host", " "),
        ],
        ids=" ".join,
    )
    def test_an_invalid_option_exits_with_2(self, run: Command, option: tuple[str, str]) -> None:
        result = run("serve", *option)

        assert result.exit_code == 2
        assert option[0] in result.stderr

    def test_too_few_open_files_are_reported(self, folder: Path) -> None:
        limited = ("sh", "-c", 'ulimit -n 63; exec "$@"', "sh", *SERVE)
        result = refused_start(folder, command=limited)

        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: The limit on open files is 63. The gateway needs 64, and one for each "
            "connection. Raise it: `ulimit -n 4096` in a shell, LimitNOFILE in systemd.\n"
        )
        assert list(folder.glob("*.sqlite3")) == []

    def test_a_database_of_a_newer_version_is_reported_with_its_setting(
        self, run: Command, folder: Path, database_url: str
    ) -> None:
        run("migrate")
        with plain_connection(parse_database_url(database_url)) as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

        environment = {"CONTACT_GATEWAY_DATABASE_URL": database_url}
        result = refused_start(folder, environment=environment)

        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: CONTACT_GATEWAY_DATABASE_URL: ")
        assert "revision 9999" in result.stderr
        assert "a newer one" in result.stderr


@dataclass(frozen=True, slots=True)
class Logged:
    """The log of a process, the keys it must not contain, and the responses by request."""

    text: str
    keys: tuple[str, str]
    responses: dict[str, httpx.Response]

    def line_of(self, name: str) -> dict[str, object]:
        """Return the log line of a request."""
        request_id = self.responses[name].headers["X-Request-Id"]
        lines = [json.loads(line) for line in self.text.splitlines()]
        (found,) = (
            line
            for line in lines
            if line["event"] == "request" and line["request_id"] == request_id
        )
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("logged")
    (folder / ".env").write_text("CONTACT_GATEWAY_LOG_FORMAT=json\n", "utf-8")
    json_type = {"Content-Type": "application/json"}
    with gateway_process(folder, "--demo") as process:
        with process.client(process.admin_key) as client, process.client() as stranger:
            responses = {
                "created": create_by_rest(client, "maya@example.com"),
                "conflict": create_by_rest(client, "maya@example.com"),
                "created by GraphQL": create_by_graphql(client, "noor@example.com"),
                "filtered": client.get("/api/v1/contacts", params={"email": "maya@example.com"}),
                "unknown path": client.get("/api/v1/people/maya@example.com"),
                "key in the path": client.get(f"/api/v1/contacts/{process.admin_key}"),
                "key in the query": stranger.get(
                    "/api/v1/contacts", params={"api_key": process.admin_key}
                ),
                "invalid": create_by_rest(client, "maya@@example.com"),
                "not JSON": client.post(
                    "/api/v1/contacts", content=b'{"email": maya@example.com}', headers=json_type
                ),
                "not GraphQL": client.post(
                    "/graphql", json={"query": "{ contacts(email: maya@example.com) }"}
                ),
                "no such field": client.post(
                    "/graphql", json={"query": '{ people(email: "maya@example.com") { id } }'}
                ),
                "wrong variables": client.post(
                    "/graphql",
                    json={"query": CREATE_CONTACT, "variables": {"input": "maya@example.com"}},
                ),
                "GraphQL by GET": client.get(
                    "/graphql",
                    params={"query": '{ contacts(email: "maya@example.com") { nodes { id } } }'},
                ),
                "other headers": stranger.get(
                    "/api/v1/contacts",
                    headers={
                        "X-Request-Id": "maya@example.com",
                        "Idempotency-Key": "maya@example.com",
                        "User-Agent": "maya@example.com",
                        "Authorization": f"Basic {process.admin_key}",
                    },
                ),
                "known id": stranger.get("/healthz", headers={"X-Request-Id": "asked-by-a-test"}),
            }
            break_contacts(folder / "contact-gateway.sqlite3")
            responses["fault"] = create_by_rest(client, "omar@example.com")
            responses["fault by GraphQL"] = create_by_graphql(client, "omar@example.com")
        assert process.stop() == 0
        return Logged(process.log(), (process.admin_key, process.member_key), responses)


def break_contacts(file: Path) -> None:
    """Make every insert of a contact fail with an error that the gateway does not expect."""
    connection = sqlite3.connect(file)
    connection.execute(
        "CREATE TRIGGER broken BEFORE INSERT ON contacts BEGIN SELECT RAISE(ABORT, 'broken'); END"
    )
    connection.commit()
    connection.close()


class TestLog:
    def test_every_line_is_one_json_object(self, logged: Logged) -> None:
        assert all(isinstance(json.loads(line), dict) for line in logged.text.splitlines())

    @pytest.mark.parametrize(
        ("name", "operation", "outcome", "status"),
        [
            ("created", "create_contact", "CREATED", 201),
            ("conflict", "create_contact", "CONFLICT", 409),
            ("created by GraphQL", "create_contact", "CREATED", 200),
            ("filtered", "contacts", "OK", 200),
            ("unknown path", None, "NOT_FOUND", 404),
            ("key in the path", "contact", "NOT_FOUND", 404),
            ("key in the query", "contacts", "UNAUTHORIZED", 401),
            ("invalid", "create_contact", "INVALID_INPUT", 422),
            ("not JSON", "create_contact", "BAD_REQUEST", 400),
            ("not GraphQL", "graphql", "BAD_REQUEST", 400),
            ("no such field", "graphql", "BAD_REQUEST", 400),
            ("wrong variables", "graphql", "BAD_REQUEST", 400),
            ("GraphQL by GET", "graphql", "OK", 200),
            ("other headers", "contacts", "UNAUTHORIZED", 401),
            ("known id", "healthz", "OK", 200),
            ("fault", "create_contact", "INTERNAL_ERROR", 500),
        ],
    )
    def test_a_request_is_one_line_with_its_operation_and_outcome(
        self, logged: Logged, name: str, operation: str | None, outcome: str, status: int
    ) -> None:
        line = logged.line_of(name)

        assert logged.responses[name].status_code == status
        assert (line["operation"], line["outcome"], line["status"]) == (operation, outcome, status)
        assert isinstance(line["duration_ms"], float)
        assert line["duration_ms"] >= 0

    def test_a_fault_is_logged_with_its_request_id_and_traceback(self, logged: Logged) -> None:
        request_id = logged.responses["fault"].headers["X-Request-Id"]
        lines = [json.loads(line) for line in logged.text.splitlines()]

        (fault,) = (
            line for line in lines if line["event"] == "fault" and line["request_id"] == request_id
        )

        assert "Traceback" in fault["exception"]

    def test_no_part_of_an_email_address_is_ever_logged(self, logged: Logged) -> None:
        assert not [word for word in ("example.com", "maya", "noor", "omar") if word in logged.text]

    def test_no_key_is_ever_logged(self, logged: Logged) -> None:
        assert "cgw_" not in logged.text
        assert not [key for key in logged.keys if key.removeprefix("cgw_") in logged.text]
