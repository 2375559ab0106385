"""The version, `python -m contact_gateway`, and completion in bash."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import contact_gateway
from support.process import Command, clean_environment

PROGRAM = Path(sys.executable).with_name("contact-gateway")
BASH = shutil.which("bash") or "bash"


def test_the_version_is_that_of_the_package(run: Command) -> None:
    result = run("--version")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"contact-gateway {contact_gateway.__version__}\n"
    assert contact_gateway.__version__ == version("contact-gateway")


@pytest.mark.parametrize("command", [[PROGRAM], [sys.executable, "-m", "contact_gateway"]])
def test_the_program_and_the_module_are_the_same(command: list[str | Path]) -> None:
    shown = subprocess.run(
        [*command, "--help"], env=clean_environment(), capture_output=True, text=True, check=True
    )

    assert "Usage: contact-gateway [OPTIONS] COMMAND" in shown.stdout


def test_a_path_with_a_percent_sign_is_like_any_other(folder: Path) -> None:
    source = folder / "100%(x)s%00"
    for package in ("contact_gateway", "graphql_plans"):
        shutil.copytree(
            Path(contact_gateway.__file__).parents[1] / package,
            source / package,
            ignore=shutil.ignore_patterns("tests", "__pycache__"),
        )

    migrated = subprocess.run(
        [sys.executable, "-m", "contact_gateway", "migrate"],
        cwd=source,
        env=clean_environment() | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert migrated.stderr.startswith("The database is at revision ")
    assert (source / "contact-gateway.sqlite3").exists()


def _bash(folder: Path, script: str) -> str:
    """Return what bash prints, with the program on its path and a home directory of its own."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    # The program looks for the shell that runs it: `true` keeps bash from replacing itself.
    return subprocess.run(
        [BASH, "--noprofile", "--norc", "-c", f"{script}\ntrue"],
        cwd=folder,
        env=clean_environment() | {"HOME": str(folder), "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_bash_completes_commands(folder: Path) -> None:
    completed = _bash(
        folder,
        """
        eval "$(contact-gateway --show-completion)"
        COMP_WORDS=(contact-gateway advertisers i) COMP_CWORD=2
        _contact_gateway_completion contact-gateway
        echo "${COMPREPLY[@]}"
        """,
    )

    assert completed == "import\n"


def test_completion_is_installed_for_bash(folder: Path) -> None:
    _bash(folder, "contact-gateway --install-completion")

    sourced = (folder / ".bashrc").read_text(encoding="utf-8")
    assert "complete -o default -F _contact_gateway_completion contact-gateway" in _bash(
        folder, f"{sourced}\ncomplete -p contact-gateway"
    )
