"""deploy/contact-gateway.service, as systemd reads it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contact_gateway.variables import PREFIX
from support.deployment import DEPLOY, seconds_of_stop, settings_of, with_options
from support.programs import skip_or_fail

NAME = "contact-gateway.service"
# Ten times the exposure level, from 0 to 100.
MAX_EXPOSURE = 20


@pytest.fixture(params=[False, True], ids=["as it is", "with its options"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the unit, with the program of this environment."""
    text = (DEPLOY / NAME).read_text(encoding="utf-8")
    program = Path(sys.executable).with_name("contact-gateway")
    text = text.replace("/opt/contact-gateway/bin/contact-gateway", str(program))
    assert str(program) in text
    file = tmp_path / NAME
    file.write_text(with_options(text) if request.param else text, encoding="utf-8")
    return file


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        skip_or_fail("systemd-analyze is not installed")
    return subprocess.run((program, *arguments), capture_output=True, encoding="utf-8", check=False)


def environment_of(unit: Path) -> dict[str, str]:
    lines = re.findall(r"^Environment=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(line.split("=", 1) for line in lines)


def test_systemd_understands_it(unit: Path) -> None:
    verified = analyzed("verify", unit)

    assert (verified.returncode, verified.stderr) == (0, "")


def test_its_exposure_is_low(unit: Path) -> None:
    rated = analyzed("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", unit)

    assert rated.returncode == 0, rated.stdout


def test_its_settings_are_known_and_its_stop_is_not_cut_short(unit: Path) -> None:
    environment = environment_of(unit)
    settings = settings_of(environment)

    (timeout,) = re.findall(
        r"^TimeoutStopSec=(\d+)$", unit.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert int(timeout) > seconds_of_stop(settings)
    assert settings.drain_seconds == 5


def test_secrets_are_read_from_credentials(unit: Path) -> None:
    files = {
        value.removeprefix("%d/")
        for name, value in environment_of(unit).items()
        if name.startswith(PREFIX) and name.endswith("_FILE")
    }
    loaded = re.findall(
        r"^LoadCredential=([\w-]+):", unit.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert set(loaded) == files
