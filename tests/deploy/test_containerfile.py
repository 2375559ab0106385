"""deploy/Containerfile: what no engine is needed for. Its root is in test_image_root.py."""

import re
import subprocess
import sys
from pathlib import Path

from contact_gateway import __version__
from contact_gateway.settings import Profile
from support.container import CONTAINERFILE, configuration, instructions
from support.deployment import settings_of


def test_hadolint_finds_nothing() -> None:
    linted = subprocess.run(
        (Path(sys.executable).with_name("hadolint"), CONTAINERFILE),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_script_makes_all_that_is_in_the_image() -> None:
    last_stage = max(index for index, (name, _) in enumerate(instructions()) if name == "FROM")
    build, image = instructions()[:last_stage], instructions()[last_stage:]

    assert [value for name, value in build if name == "RUN"] == ["scripts/build-image-root /image"]
    assert image[0] == ("FROM", "scratch")
    assert "RUN" not in dict(image)
    assert [value.split()[-2] for name, value in image if name == "COPY"] == [
        "/image",
        "/image/data",
    ]


def test_the_base_is_pinned_to_a_release() -> None:
    base = dict(
        value.split("=") for name, value in instructions() if name == "ARG" and "=" in value
    )

    assert re.fullmatch(r"3\.\d+\.\d+-slim-[a-z]+", base["PYTHON"])


def test_the_gateway_runs_without_a_shell_and_without_rights() -> None:
    image = configuration()

    assert (image.entrypoint, image.command) == (["contact-gateway"], ["serve"])
    assert (image.user, image.folder) == ("65532:65532", "/data")
    assert image.labels["org.opencontainers.image.version"] == __version__
    assert ("STOPSIGNAL", "SIGTERM") in instructions()
    health = dict(instructions())["HEALTHCHECK"]
    assert health.endswith(' CMD ["contact-gateway", "healthcheck"]')


def test_its_settings_are_those_of_a_gateway_on_the_internet() -> None:
    settings = settings_of(dict(configuration().environment))

    assert (settings.profile, settings.host) == (Profile.PRODUCTION, "0.0.0.0")  # noqa: S104
    # The default is a file in the working directory.
    assert settings.database_url == "sqlite+aiosqlite:///contact-gateway.sqlite3"
