"""Settings come from the environment and `.env`; an invalid one stops the start."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from contact_gateway.database_url import UnsupportedDatabaseError, parse_database_url
from contact_gateway.settings import SECRETS, Profile, Settings, load_settings
from contact_gateway.variables import SettingsError
from support.process import Command, refused_start

Give = Callable[[str, str], None]


@pytest.fixture(params=["environment", ".env"])
def give(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Give:
    """Return a function that sets a setting, in the environment or in `.env`."""

    def write(name: str, value: str) -> None:
        (folder / ".env").write_text(f'{name}="{value}"\n', encoding="utf-8")

    return monkeypatch.setenv if request.param == "environment" else write


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://localhost/contacts"),
        ("DATABASE_URL", "postgresql://localhost/contacts"),
        ("DATABASE_URL", "sqlite+aiosqlite://"),
        ("DATABASE_URL", "sqlite+aiosqlite://gw.sqlite3"),
        ("DATABASE_URL", "sqlite+aiosqlite://data/gw.sqlite3"),
        ("DATABASE_URL", "sqlite+aiosqlite://me:secret@localhost/gw.sqlite3"),
        ("DATABASE_URL", "sqlite+aiosqlite:///gw.sqlite3?mode=ro"),
        ("DATABASE_URL", "sqlite+aiosqlite:///gw.sqlite3?"),
        ("DATABASE_URL", "sqlite+aiosqlite:///gw%00.sqlite3"),
        ("DATABASE_URL", "sqlite+aiosqlite:///gw%0A.sqlite3"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/app"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "https://app.example.com:*"),
        ("CORS_ORIGINS", "file://localhost"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "capacitor://localhost/app"),
        ("CORS_ORIGINS", "https://me@app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com:99999"),
        ("CORS_ORIGINS", "https://app.example.com,app.example.com"),
        ("RATE_LIMIT_PER_HOUR", "-1"),
        ("RATE_LIMIT_PER_HOUR", "many"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BODY_BYTES", "64k"),
        ("PROFILE", "staging"),
        ("MAX_WAITING", "0"),
        ("BODY_TIMEOUT_SECONDS", "0"),
        ("BODY_TIMEOUT_SECONDS", "nan"),
        ("MAX_JSON_DEPTH", "1"),
        ("ROOT_PATH", "gw"),
        ("ROOT_PATH", "//other.example"),
        ("ROOT_PATH", "/g w"),
        ("KEEP_ALIVE_SECONDS", "0"),
        ("DRAIN_SECONDS", "-1"),
        ("DRAIN_SECONDS", "nan"),
        ("SHUTDOWN_SECONDS", "0"),
        ("GRAPHQL_MAX_TOKENS", "0"),
        ("GRAPHQL_MAX_DEPTH", "0"),
        ("GRAPHQL_MAX_ALIASES", "-1"),
        ("GRAPHQL_MAX_DIRECTIVES", "-1"),
        ("GRAPHQL_MAX_MUTATIONS", "0"),
        ("GRAPHQL_MAX_RECORDS", "0"),
        ("RATE_LIMIT_URL", "memcached://localhost"),
        ("RATE_LIMIT_URL", "redis://"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1:99999/0"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1:0/0"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1:6379/main"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1:6379/-1"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1/0?timeout=1"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1/0?socket_timeout=soon"),
        ("RATE_LIMIT_URL", "redis://127.0.0.1/0?ssl_cert_reqs=none"),
        ("RATE_LIMIT_URL", "redis://[::1/0"),
        ("KEY_GUESSES_PER_MINUTE", "-1"),
        ("TRUSTED_PROXIES", "the proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("METRICS", "perhaps"),
        ("TRACES", "perhaps"),
        ("GRAPHIQL", "perhaps"),
        ("INTROSPECTION", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("UPSTREAM_URL", "app.hienergy.ai/api/v1"),
        ("UPSTREAM_URL", "http://app.hienergy.ai/api/v1"),
        ("UPSTREAM_URL", "http://10.0.0.1/api/v1"),
        ("UPSTREAM_URL", "http://127.0.0.1.example.com/api/v1"),
        ("UPSTREAM_URL", "ftp://127.0.0.1/api/v1"),
        ("UPSTREAM_URL", "https:///api/v1"),
        ("UPSTREAM_URL", "https://app.hienergy.ai:99999/api/v1"),
        ("UPSTREAM_URL", "https://me:secret@app.hienergy.ai/api/v1"),
        ("UPSTREAM_URL", "https://app.hienergy.ai/api/v1?api_key=secret"),
        ("UPSTREAM_URL", "https://app.hienergy.ai/api/v1#top"),
        ("UPSTREAM_TIMEOUT_SECONDS", "0"),
        ("UPSTREAM_TIMEOUT_SECONDS", "soon"),
        ("UPSTREAM_TIMEOUT_SECONDS", "nan"),
        ("UPSTREAM_MAX_CONNECTIONS", "0"),
    ],
)
def test_an_invalid_value_stops_the_start_and_is_named(
    run: Command, give: Give, folder: Path, name: str, value: str
) -> None:
    give(f"CONTACT_GATEWAY_{name}", value)
    before = set(folder.iterdir())

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: CONTACT_GATEWAY_{name}: ")
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("METRICS", "maybe", "true or false"),
        ("MAX_WAITING", "many", "a whole number"),
        ("BODY_TIMEOUT_SECONDS", "soon", "a number"),
        ("KEEP_ALIVE_SECONDS", "0", "greater than or equal to 1"),
        ("PROFILE", "prod", "'development' or 'production'"),
    ],
)
def test_the_error_of_a_value_says_what_it_must_be(
    run: Command, give: Give, name: str, value: str, expected: str
) -> None:
    give(f"CONTACT_GATEWAY_{name}", value)

    result = run("serve", "--port", "0")

    assert result.stderr == f"Error: CONTACT_GATEWAY_{name}: it must be {expected}.\n"


def test_the_address_of_an_admin_port_without_a_port_stops_the_start(
    run: Command, give: Give
) -> None:
    give("CONTACT_GATEWAY_ADMIN_HOST", "127.0.0.1")

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: CONTACT_GATEWAY_ADMIN_HOST: it needs CONTACT_GATEWAY_ADMIN_PORT.\n"
    )


def test_a_drain_as_long_as_the_shutdown_stops_the_start(run: Command, give: Give) -> None:
    give("CONTACT_GATEWAY_DRAIN_SECONDS", "40")

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: CONTACT_GATEWAY_SHUTDOWN_SECONDS: ")
    assert "more than CONTACT_GATEWAY_DRAIN_SECONDS, which is 40" in result.stderr


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CONTACT_GATEWAY_RATE_LIMIT_PER_HOURS", "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR"),
        ("contact_gateway_databaseurl", "CONTACT_GATEWAY_DATABASE_URL"),
    ],
)
def test_an_unknown_setting_stops_the_start_and_the_nearest_is_suggested(
    run: Command, give: Give, name: str, nearest: str
) -> None:
    give(name, "1")

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Unknown setting {name}. Did you mean {nearest}?\n"


@pytest.mark.parametrize("name", ["CONTACT_GATEWAY_QQQ", "CONTACT_GATEWAY_"])
def test_an_unknown_setting_like_no_other_is_refused_with_a_list_of_all(
    run: Command, give: Give, name: str
) -> None:
    give(name, "1")

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: Unknown setting {name}. The settings are ")
    assert all(f"CONTACT_GATEWAY_{each.upper()}" in result.stderr for each in Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_not_set(give: Give, name: str) -> None:
    give(f"CONTACT_GATEWAY_{name.upper()}", " ")

    assert load_settings() == Settings()


def test_spaces_around_a_value_are_ignored(give: Give) -> None:
    give("CONTACT_GATEWAY_PROFILE", " production ")

    assert load_settings().profile is Profile.PRODUCTION


@pytest.mark.parametrize("service", ["CONTACT_GATEWAY", "CONTACT_GATEWAY_METRICS"])
def test_variables_that_an_orchestrator_injects_for_a_service_are_ignored(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    injected = {
        "SERVICE_HOST": "10.96.0.1",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": "tcp://10.96.0.1:8000",
        "ADMIN_PORT": "tcp://10.96.0.2:8081",
        "PORT_8000_TCP": "tcp://10.96.0.1:8000",
        "PORT_8000_TCP_ADDR": "10.96.0.1",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_PROTO": "tcp",
    }
    for name, value in injected.items():
        monkeypatch.setenv(f"{service}_{name}", value)

    assert load_settings() == Settings()


def test_the_address_is_read_from_the_settings(give: Give) -> None:
    give("CONTACT_GATEWAY_PORT", "0")

    assert load_settings().port == 0


@pytest.mark.parametrize(
    ("name", "value", "address"),
    [
        ("PORT", "5000", ("127.0.0.1", 5000)),
        ("HOST", "0.0.0.0", ("0.0.0.0", 8000)),  # noqa: S104 - read, not listened on
        ("HOST", "x86_64-conda-linux-gnu", ("127.0.0.1", 8000)),
        ("PORT", "/dev/ttyUSB0", ("127.0.0.1", 8000)),
        ("PORT", "", ("127.0.0.1", 8000)),
    ],
)
def test_the_address_that_a_platform_assigns_is_used_if_it_is_one(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, address: tuple[str, int]
) -> None:
    monkeypatch.setenv(name, value)
    settings = load_settings()

    assert (settings.host, settings.port) == address


def test_a_setting_overrides_the_address_that_a_platform_assigns(
    monkeypatch: pytest.MonkeyPatch, give: Give
) -> None:
    monkeypatch.setenv("PORT", "5000")
    give("CONTACT_GATEWAY_PORT", "6000")

    assert load_settings().port == 6000


def test_an_unusable_port_of_a_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "99999")

    with pytest.raises(SettingsError, match=r"^PORT: "):
        load_settings()


class TestSecretsInFiles:
    @pytest.mark.parametrize("name", sorted(SECRETS))
    def test_a_file_holds_the_value(self, give: Give, folder: Path, name: str) -> None:
        value = {
            "database_url": "sqlite+aiosqlite:///other.sqlite3",
            "rate_limit_url": "redis://:secret@127.0.0.1:6379/0",
        }[name]
        (folder / "secret").write_text(f"{value}\n", encoding="utf-8")
        give(f"CONTACT_GATEWAY_{name.upper()}_FILE", "secret")

        assert getattr(load_settings(), name) == value

    def test_an_invalid_value_is_reported_with_the_variable_of_the_file(
        self, give: Give, folder: Path
    ) -> None:
        (folder / "secret").write_text("nonsense", encoding="utf-8")
        give("CONTACT_GATEWAY_DATABASE_URL_FILE", "secret")

        with pytest.raises(SettingsError, match=r"^CONTACT_GATEWAY_DATABASE_URL_FILE: "):
            load_settings()

    @pytest.mark.parametrize("content", [None, b"", b"\xff"], ids=["missing", "empty", "binary"])
    def test_a_file_without_a_value_is_refused(
        self, give: Give, folder: Path, content: bytes | None
    ) -> None:
        if content is not None:
            (folder / "secret").write_bytes(content)
        give("CONTACT_GATEWAY_DATABASE_URL_FILE", "secret")

        with pytest.raises(SettingsError, match=r"^CONTACT_GATEWAY_DATABASE_URL_FILE: .*secret"):
            load_settings()

    def test_a_value_beside_a_file_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        (folder / "secret").write_text("redis://127.0.0.1", encoding="utf-8")
        monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL_FILE", "secret")
        monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", "redis://127.0.0.1")

        with pytest.raises(SettingsError, match="are both set"):
            load_settings()

    def test_a_variable_overrides_a_file_that_the_env_file_names(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        (folder / ".env").write_text("CONTACT_GATEWAY_RATE_LIMIT_URL_FILE=secret\n", "utf-8")
        monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", "redis://127.0.0.1")

        assert load_settings().rate_limit_url == "redis://127.0.0.1"


class TestEnvFile:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            pytest.param('CONTACT_GATEWAY_PROFILE="production\n', 1, id="a quote missing"),
            pytest.param("\n\nCONTACT_GATEWAY_PROFILE='production\n", 3, id="after empty lines"),
            pytest.param("A=1\nCONTACT_GATEWAY_PROFILE: production\n", 2, id="a colon"),
            pytest.param("CONTACT_GATEWAY_PROFILE:production\n", 1, id="a colon without a space"),
            pytest.param("set CONTACT_GATEWAY_PROFILE=production\n", 1, id="as in cmd.exe"),
            pytest.param('$env:CONTACT_GATEWAY_PROFILE = "production"\n', 1, id="as in PowerShell"),
            pytest.param("CONTACT_GATEWAY_PROFILE\n", 1, id="no value"),
            pytest.param(
                'CONTACT_GATEWAY_PROFILE="production\nCONTACT_GATEWAY_METRICS="true"\n',
                1,
                id="a quote missing before another",
            ),
            pytest.param(
                '# a comment\nOTHER="x\nCONTACT_GATEWAY_METRICS=true\nANOTHER="\n',
                2,
                id="settings inside a value",
            ),
            pytest.param("A=1\nB=\udcff\n", 2, id="not UTF-8"),
            pytest.param("A=1\nC\0O\0N\0", 2, id="UTF-16"),
        ],
    )
    def test_a_line_that_cannot_be_read_stops_the_start_and_is_named(
        self, run: Command, folder: Path, text: str, line: int
    ) -> None:
        (folder / ".env").write_bytes(text.encode("utf-8", "surrogateescape"))

        result = run("serve", "--port", "0")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: .env, line {line}: ")

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("set OTHER=1\n", id="of another program"),
            pytest.param("# CONTACT_GATEWAY_METRICS: false\n", id="a comment"),
            pytest.param("VITE_CONTACT_GATEWAY_URL=http://x\n", id="a name with ours inside"),
            pytest.param("\ufeff", id="a byte order mark"),
        ],
    )
    def test_other_lines_are_ignored_without_a_warning(
        self, folder: Path, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        (folder / ".env").write_text(f"{text}CONTACT_GATEWAY_METRICS=true\n", encoding="utf-8")

        assert load_settings().metrics
        assert caplog.records == []

    def test_a_folder_of_this_name_is_ignored(self, folder: Path) -> None:
        (folder / ".env").mkdir()

        assert load_settings() == Settings()


def test_every_invalid_setting_is_named_at_once(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_GRAPHIQL", "perhaps")
    monkeypatch.setenv("CONTACT_GATEWAY_MAX_BODY_BYTES", "0")

    errors = run("serve", "--port", "0").stderr

    assert "CONTACT_GATEWAY_GRAPHIQL: " in errors
    assert "CONTACT_GATEWAY_MAX_BODY_BYTES: " in errors


@pytest.mark.parametrize(
    ("name", "value", "library", "extra"),
    [
        ("DATABASE_URL", "postgresql://gateway@localhost/contacts", "psycopg", "postgresql"),
        ("RATE_LIMIT_URL", "redis://localhost:6379/0", "redis", "redis"),
        ("TRACES", "true", "opentelemetry.sdk", "otel"),
    ],
)
def test_a_setting_that_needs_an_extra_names_it(
    run: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str, library: str, extra: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else find_spec(name)
    )
    monkeypatch.setenv(f"CONTACT_GATEWAY_{name}", value)

    result = run("serve", "--port", "0")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: CONTACT_GATEWAY_{name}: ")
    assert f"contact-gateway[{extra}]" in result.stderr
    assert f"scripts/environment --no-dev --inexact --extra {extra}" in result.stderr


def test_the_profile_is_read_like_any_setting(give: Give) -> None:
    give("CONTACT_GATEWAY_PROFILE", "production")
    settings = load_settings()

    assert (settings.graphiql, settings.introspection, settings.rest_docs) == (False,) * 3


def test_a_database_url_with_two_slashes_is_refused_with_the_right_spelling() -> None:
    with pytest.raises(UnsupportedDatabaseError, match=r"use sqlite:///data/gw\.sqlite3"):
        parse_database_url("sqlite://data/gw.sqlite3")


def test_a_percent_sign_in_the_path_of_the_database_is_written_as_an_escape(
    run: Command, give: Give, folder: Path
) -> None:
    give("CONTACT_GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///100%25.sqlite3")

    assert run("migrate").exit_code == 0

    assert (folder / "100%.sqlite3").exists()


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost:443", "http://localhost:443"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("https://Bücher.example", "https://xn--bcher-kva.example"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("Chrome-Extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("*", "*"),
    ],
)
def test_origins_are_compared_as_browsers_send_them(give: Give, written: str, sent: str) -> None:
    give("CONTACT_GATEWAY_CORS_ORIGINS", written)

    assert load_settings().cors_origins == (sent,)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://user:p%40ss@127.0.0.1:6379/3",
        "rediss://[::1]:6380/0?ssl_cert_reqs=none",
        "redis://127.0.0.1/0?socket_timeout=2",
    ],
)
def test_a_rate_limit_url_may_have_options_of_its_client(give: Give, url: str) -> None:
    give("CONTACT_GATEWAY_RATE_LIMIT_URL", url)

    assert load_settings().rate_limit_url == url


def test_no_message_shows_a_password(run: Command, give: Give) -> None:
    give("CONTACT_GATEWAY_RATE_LIMIT_URL", "redis://:secret@127.0.0.1:99999/0")

    result = run("serve", "--port", "0", "--workers", "2")

    assert result.exit_code == 1
    assert "secret" not in result.output


def test_networks_of_proxies_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8,192.0.2.1")
    networks = load_settings().trusted_proxies

    assert [str(network) for network in networks] == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]


def test_unix_sockets_are_trusted_beside_networks(run: Command, give: Give) -> None:
    give("CONTACT_GATEWAY_TRUSTED_PROXIES", "unix,10.0.0.0/8")

    assert run("settings", "TRUSTED_PROXIES").stdout == "unix,10.0.0.0/8\n"


def test_a_proxy_that_is_neither_is_refused(run: Command, give: Give) -> None:
    give("CONTACT_GATEWAY_TRUSTED_PROXIES", "unix:")

    result = run("settings")

    assert result.exit_code == 1
    assert "use a network such as 10.0.0.0/8, or unix" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "list"),
        ("keys", "revoke", "1"),
        ("migrate",),
        ("serve", "--port", "0", "--demo"),
        ("upstream", "check"),
    ],
    ids=" ".join,
)
def test_every_command_that_reads_settings_refuses_an_invalid_one(
    run: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_LOG_FORMAT", "xml")

    result = run(*command)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: CONTACT_GATEWAY_LOG_FORMAT: ")


def test_a_setting_is_used_from_either_source(run: Command, give: Give, folder: Path) -> None:
    give("CONTACT_GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///elsewhere.sqlite3")

    assert run("migrate").exit_code == 0

    assert (folder / "elsewhere.sqlite3").exists()
    assert not (folder / "contact-gateway.sqlite3").exists()


def test_the_environment_overrides_the_file(
    run: Command, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / ".env").write_text(
        "CONTACT_GATEWAY_DATABASE_URL=sqlite+aiosqlite:///file.sqlite3\n", encoding="utf-8"
    )
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///environment.sqlite3")

    run("migrate")

    assert (folder / "environment.sqlite3").exists()
    assert not (folder / "file.sqlite3").exists()


def test_settings_of_other_programs_are_ignored(run: Command, folder: Path) -> None:
    (folder / ".env").write_text("LOG_FORMAT=xml\nGATEWAY_TOKEN=1\n", encoding="utf-8")

    assert run("migrate").exit_code == 0


def test_an_env_file_that_cannot_be_looked_at_is_named(run: Command, folder: Path) -> None:
    """As in a working directory of another user."""
    (folder / ".env").symlink_to("a" * 300)

    result = run("migrate")

    assert (result.exit_code, result.stderr) == (
        1,
        "Error: .env: cannot be read: File name too long.\n",
    )


def test_an_unreadable_env_file_stops_the_start_and_is_named(run: Command, folder: Path) -> None:
    (folder / ".env").write_bytes(b"CONTACT_GATEWAY_LOG_FORMAT=\xff\n")

    result = run("serve", "--port", "0")

    assert result.exit_code == 1
    assert ".env" in result.stderr


def test_a_database_in_a_missing_folder_stops_the_start(folder: Path) -> None:
    (folder / ".env").write_text(
        "CONTACT_GATEWAY_DATABASE_URL=sqlite+aiosqlite:///nowhere/x.sqlite3\n", encoding="utf-8"
    )

    result = refused_start(folder)

    assert (result.returncode, result.stdout) == (1, "")
    assert "Error: CONTACT_GATEWAY_DATABASE_URL: " in result.stderr


def test_a_file_that_is_not_a_database_is_refused_and_unchanged(
    run: Command, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    letter = folder / "letter.txt"
    letter.write_text("Dear Sir or Madam, " * 50, encoding="utf-8")
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///letter.txt")

    result = run("keys", "list")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: CONTACT_GATEWAY_DATABASE_URL: ")
    assert letter.read_text(encoding="utf-8").startswith("Dear Sir")


@pytest.mark.parametrize(
    "url",
    [
        "https://app.hienergy.ai/api/v1",
        "https://app.hienergy.ai/api/v1/",
        "http://127.0.0.1:8000/api/v1",
        "http://localhost/api/v1",
        "http://[::1]:8000/api/v1",
    ],
)
def test_upstream_is_https_or_on_this_machine(url: str) -> None:
    settings = Settings.model_validate({"upstream_url": url})

    assert settings.upstream_url == url.rstrip("/")


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "0", "--demo"),
        ("keys", "create", "--role", "admin", "--label", "ci"),
        ("keys", "list"),
        ("keys", "revoke", "1"),
        ("advertisers", "import", "catalogue.csv"),
    ],
    ids=" ".join,
)
def test_commands_of_the_database_are_refused_in_front_of_upstream(
    run: Command, give: Give, folder: Path, arguments: tuple[str, ...]
) -> None:
    (folder / "catalogue.csv").write_text("id,name\n", encoding="utf-8")
    give("CONTACT_GATEWAY_UPSTREAM_URL", "https://app.hienergy.ai/api/v1")

    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: CONTACT_GATEWAY_UPSTREAM_URL: ")
    assert not (folder / "contact-gateway.sqlite3").exists()
