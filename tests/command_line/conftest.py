"""The command line in this process, in an empty folder and without settings."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from contact_gateway.cli import main
from support.databases import Engine, new_database
from support.process import Command


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory, and unset the gateway's settings."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("CONTACT_GATEWAY_") or name in {"HOST", "PORT"}:
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def database_url(
    folder: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Return the URL of an empty database of each system, which is set for the commands."""
    url = new_database(folder)
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)
    return url


@pytest.fixture
def run(folder: Path) -> Iterator[Command]:
    """Return a function that runs `contact-gateway` with arguments. An exception fails the test."""
    assert Path.cwd() == folder
    root = logging.getLogger()
    handlers, level, log_settings = list(root.handlers), root.level, structlog.get_config()

    def run_command(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    yield run_command
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**log_settings)
