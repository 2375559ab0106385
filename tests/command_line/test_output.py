"""Standard streams that are closed or full: nothing is created that cannot be shown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.clock import WATCHDOG_SECONDS
from support.process import Command, clean_environment

CLOSED_OR_FULL = [">&-", ">/dev/full"]
CREATE_KEY = "keys create --role admin --label x"


def shell(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with redirections of the shell."""
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m contact_gateway {arguments}"],  # noqa: S607
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WATCHDOG_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("redirection", CLOSED_OR_FULL)
@pytest.mark.parametrize(
    "command",
    [
        CREATE_KEY,
        "keys list",
        "keys list --json",
        "contacts export -",
        "schema graphql",
        "--version",
        "serve --port 0",
        "serve --port 0 --demo",
        "serve --port 0 --workers 2",
    ],
)
def test_a_command_that_cannot_print_says_so_in_one_sentence(
    folder: Path, command: str, redirection: str
) -> None:
    result = shell(folder, f"{command} {redirection}")

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: standard output cannot be written: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("redirection", CLOSED_OR_FULL)
@pytest.mark.parametrize("command", [CREATE_KEY, "serve --port 0 --demo"])
def test_a_key_that_cannot_be_shown_is_not_created(
    run: Command, folder: Path, command: str, redirection: str
) -> None:
    shell(folder, f"{command} {redirection}")

    assert json.loads(run("keys", "list", "--json").stdout) == []


@pytest.mark.parametrize("redirection", CLOSED_OR_FULL)
def test_a_key_whose_new_secret_cannot_be_shown_is_not_rotated(
    run: Command, folder: Path, redirection: str
) -> None:
    run("keys", "create", "--role", "admin", "--label", "x")
    listed = run("keys", "list", "--json").stdout

    result = shell(folder, f"keys rotate 1 --expires-in-days 1 {redirection}")

    assert result.returncode == 1
    assert run("keys", "list", "--json").stdout == listed


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_key_is_created_without_standard_error(
    run: Command, folder: Path, redirection: str
) -> None:
    result = shell(folder, f"{CREATE_KEY} {redirection}")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("cgw_")
    assert len(json.loads(run("keys", "list", "--json").stdout)) == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_exits_with_1_without_standard_error(folder: Path, redirection: str) -> None:
    result = shell(folder, f"keys revoke 41 {redirection}")

    assert (result.returncode, result.stdout) == (1, "")


def test_a_server_is_not_started_without_standard_error(folder: Path) -> None:
    result = shell(folder, "serve --port 0 --demo 2>&-")

    assert result.returncode == 1
    assert result.stdout.startswith("Error: standard error is closed, and the log is written there")
    assert not (folder / "contact-gateway.sqlite3").exists()
