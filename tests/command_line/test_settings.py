"""Settings come from the environment and `.env`; an invalid one stops the start."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from contact_gateway.settings import Settings, load_settings
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
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com,app.example.com"),
        ("RATE_LIMIT_PER_HOUR", "-1"),
        ("RATE_LIMIT_PER_HOUR", "many"),
        ("RATE_LIMIT_PER_HOUR", ""),
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
        ("RATE_LIMIT_URL", "memcached://localhost"),
        ("RATE_LIMIT_URL", "redis://"),
        ("KEY_GUESSES_PER_MINUTE", "-1"),
        ("TRUSTED_PROXIES", "the proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("METRICS", "perhaps"),
        ("TRACES", "perhaps"),
        ("GRAPHIQL", "perhaps"),
        ("INTROSPECTION", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("UPSTREAM_URL", ""),
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


@pytest.mark.parametrize("name", ["CONTACT_GATEWAY_PORT", "CONTACT_GATEWAY_"])
def test_an_unknown_setting_like_no_other_is_refused_with_a_list_of_all(
    run: Command, give: Give, name: str
) -> None:
    give(name, "1")

    result = run("serve", "--port", "0")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: Unknown setting {name}. The settings are ")
    assert all(f"CONTACT_GATEWAY_{each.upper()}" in result.stderr for each in Settings.model_fields)


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
        ("RATE_LIMIT_URL", "redis://localhost:6379/0", "redis", "redis"),
        ("TRACES", "true", "opentelemetry", "otel"),
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


def test_the_profile_is_read_like_any_setting(give: Give) -> None:
    give("CONTACT_GATEWAY_PROFILE", "production")
    settings = load_settings()

    assert (settings.graphiql, settings.introspection) == (False, False)


def test_networks_of_proxies_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8,192.0.2.1")
    networks = load_settings().trusted_proxies

    assert [str(network) for network in networks] == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]


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
