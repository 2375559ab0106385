"""`contact-gateway settings`: the settings in use, their sources, and no passwords."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from contact_gateway.settings import Settings
from support.process import Command, clean_environment

ROOT = Path(__file__).parents[2]


def records(run: Command) -> Mapping[str, tuple[object, str]]:
    """Return the value and the source of each setting."""
    found = json.loads(run("settings", "--json").stdout)
    return {
        each["name"].removeprefix("CONTACT_GATEWAY_"): (each["value"], each["source"])
        for each in found
    }


def test_every_setting_is_shown_with_its_value_and_source(
    run: Command, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / ".env").write_text("CONTACT_GATEWAY_METRICS=true\n", "utf-8")
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "sqlite:///a=b.sqlite3")
    (folder / "url").write_text("redis://:secret@127.0.0.1/0?username=me", "utf-8")
    monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL_FILE", "url")
    monkeypatch.setenv("CONTACT_GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("PORT", "5000")

    shown = records(run)

    assert shown.keys() == {name.upper() for name in Settings.model_fields}
    assert shown["DATABASE_URL"] == ("sqlite:///a=b.sqlite3", "environment")
    assert shown["METRICS"] == (True, ".env")
    assert shown["RATE_LIMIT_URL"] == ("redis://***@127.0.0.1/0?username=***", "file")
    assert shown["TRUSTED_PROXIES"] == (["10.0.0.0/8", "fd00::/8"], "environment")
    assert shown["PORT"] == (5000, "environment")
    assert shown["UPSTREAM_URL"] == (None, "default")


def test_a_table_has_one_setting_on_each_line(run: Command, give_password: str) -> None:
    result = run("settings")

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + len(Settings.model_fields)
    assert give_password not in result.stdout


@pytest.fixture
def give_password(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", "redis://me:pass@word@127.0.0.1/0")
    return "word"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTACT_GATEWAY_MAX_BODY_BYTES", "65536"),
        ("max_body_bytes", "65536"),
        ("UPSTREAM_URL", ""),
        ("GRAPHIQL", "true"),
        ("TRUSTED_PROXIES", ""),
    ],
)
def test_one_value_is_printed_alone(run: Command, name: str, value: str) -> None:
    assert run("settings", name).stdout == f"{value}\n"


def test_an_unknown_name_exits_with_2(run: Command) -> None:
    assert run("settings", "NO_SUCH").exit_code == 2


@pytest.mark.parametrize("in_env_file", [True, False])
def test_the_script_serves_the_demo_unless_an_upstream_is_set(
    folder: Path, *, in_env_file: bool
) -> None:
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "serve", folder / "scripts")
    for name, text in {
        "scripts/environment": "#!/bin/sh",
        ".venv/bin/contact-gateway": (
            '#!/bin/sh\n[ "$1" != settings ] || exec '
            + str(ROOT / ".venv/bin/contact-gateway")
            + ' "$@"\necho "$@"'
        ),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n", "utf-8")
        (folder / name).chmod(0o755)
    if in_env_file:
        (folder / ".env").write_text(
            "CONTACT_GATEWAY_UPSTREAM_URL=http://127.0.0.1:9/api\n", "utf-8"
        )

    ran = subprocess.run(
        [folder / "scripts" / "serve", "--port", "0"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == ("serve --port 0\n" if in_env_file else "serve --demo --port 0\n")
