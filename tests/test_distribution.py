"""The sdist, the wheel and the SBOM: their content, and installations from them."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.clock import WATCHDOG_SECONDS
from support.documentation import ROOT
from support.process import GatewayProcess, clean_environment, gateway_process
from support.programs import skip_or_fail

UV = ROOT / ".uv" / "bin" / "uv"
# The commands of the documentation that need a package index.
TABLES = "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8").partition("## Installation\n")[2][:1500]
    for name in ("quickstart.md", "operating.md")
)
COMMANDS = re.findall(r"^\| .* \| `((?:uvx|pipx|pip) .*)` \|$", TABLES, re.MULTILINE)


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program that succeeds; return its standard output."""
    completed = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment() | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    assert completed.returncode == 0, f"{completed.stdout}\n{completed.stderr}"
    return completed.stdout


def build(root: Path, folder: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Run `scripts/build` in the environment of the tests; return the folder with the files."""
    ready = {"CONTACT_GATEWAY_ENVIRONMENT_READY": "1"} | dict(environment or {})
    run(root / "scripts" / "build", folder, environment=ready)
    return folder


def tracked_files(folder: str = ".") -> set[str]:
    """Return the files of the repository: those in git, and new ones that are not ignored."""
    if not (ROOT / ".git").exists():
        skip_or_fail("the files of the repository are listed by git")
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", folder)
    return {name for name in run(*command, cwd=ROOT).splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the sdist, the wheel and the SBOM."""
    return build(ROOT, tmp_path_factory.mktemp("release") / "dist")


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    (file,) = release.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def sdist(release: Path) -> Path:
    (file,) = release.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def sbom(release: Path) -> dict[str, Any]:
    (file,) = release.glob("contact-gateway-*.cdx.json")
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the variables of installations: a home of their own, and the versions of the lock."""
    folder = tmp_path_factory.mktemp("installations")
    versions = folder / "constraints.txt"
    options = ("--quiet", "--locked", "--no-dev", "--all-extras", "--no-hashes")
    run(UV, "export", *options, "--no-emit-project", "--output-file", versions, cwd=ROOT)
    return {
        "PATH": os.pathsep.join((str(UV.parent), *os.environ["PATH"].split(os.pathsep))),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_DEFAULT_BACKEND": "uv",
        "PIPX_HOME": str(folder / "pipx"),
        "UV_CONSTRAINT": str(versions),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }


@pytest.fixture(scope="module")
def programs(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, environment: Mapping[str, str]
) -> Path:
    """Install the wheel into an empty environment, as documented for pip; return its programs."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(UV, "venv", "--quiet", folder, environment=environment)
    (command,) = (command for command in COMMANDS if command.startswith("pip "))
    options = ("--quiet", "--python", str(folder))
    # uv has the packages in its cache, pip would download them.
    run(UV, *_of_wheel(command, wheel), *options, environment=environment)
    return folder / "bin"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, programs: Path
) -> Iterator[tuple[GatewayProcess, Path]]:
    """Run the installed gateway with the demo; return it and its working directory."""
    folder = tmp_path_factory.mktemp("served")
    command = (str(programs / "contact-gateway"), "serve")
    with gateway_process(folder, "--demo", command=command) as process:
        yield process, folder


def _of_wheel(command: str, wheel: Path) -> list[str]:
    """Return a command that installs from an index, with the wheel instead of the index."""
    words = shlex.split(command)
    if words[:2] == ["uvx", "contact-gateway"]:
        words[1:1] = ["--from", str(wheel)]
    elif words[:3] == ["pipx", "run", "contact-gateway"]:
        words[2:2] = ["--spec", str(wheel)]
    else:
        (place,) = (i for i, word in enumerate(words) if word.startswith("contact-gateway"))
        words[place] = words[place].replace("contact-gateway", str(wheel))
    if words[0] == "pipx":
        words[0] = str(Path(sys.executable).with_name("pipx"))
    return words


class TestFiles:
    def test_the_wheel_has_both_packages_and_nothing_else(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        packaged = {name for name in names if ".dist-info/" not in name}

        assert packaged == {
            name.removeprefix("src/")
            for name in tracked_files("src")
            if not name.startswith("src/graphql_plans/tests/")
        }
        assert {name.partition(".dist-info/")[2] for name in names} - {""} == {
            "METADATA",
            "RECORD",
            "WHEEL",
            "entry_points.txt",
            "licenses/LICENSE",
        }

    def test_the_sdist_has_every_file_of_the_repository(self, sdist: Path) -> None:
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}

        assert names == tracked_files() | {"PKG-INFO"}

    def test_the_sdist_builds_the_same_bytes(
        self, release: Path, sdist: Path, sbom: dict[str, Any], tmp_path: Path
    ) -> None:
        with tarfile.open(sdist) as archive:
            archive.extractall(tmp_path / "sdist", filter="data")
            built_at = max(member.mtime for member in archive.getmembers())
        (root,) = (tmp_path / "sdist").iterdir()
        for name in (".venv", ".uv"):
            (root / name).symlink_to(ROOT / name)
        other = {"SOURCE_DATE_EPOCH": str(int(built_at)), "TZ": "Asia/Tokyo"}

        again = build(root, tmp_path / "again", other)

        assert sbom["metadata"]["timestamp"].endswith("+00:00")
        assert {file.name: file.read_bytes() for file in again.glob("contact*")} == {
            file.name: file.read_bytes() for file in release.glob("contact*")
        }

    def test_no_link_of_the_description_is_relative(self, metadata: Message) -> None:
        description = metadata.get_payload()

        assert isinstance(description, str)
        assert "# contact-gateway" in description
        assert re.findall(r"\]\((?!https?:)", description) == []

    def test_ci_tests_every_version_of_python_that_the_classifiers_name(
        self, metadata: Message
    ) -> None:
        workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
        (matrix,) = re.findall(r"^ +python: (\[.*\])$", workflow, re.MULTILINE)
        classifiers = "\n".join(metadata.get_all("Classifier", []))

        assert json.loads(matrix) == re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE)


class TestSbom:
    def test_it_has_the_packages_of_the_lock_file_that_a_user_gets(
        self, sbom: dict[str, Any], metadata: Message
    ) -> None:
        components = {component["name"]: component["version"] for component in sbom["components"]}
        required = {
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            for requirement in metadata.get_all("Requires-Dist", [])
        }

        assert required <= components.keys()
        assert components.keys().isdisjoint({"pytest", "mypy", "twine", "contact-gateway"})
        assert all(component["purl"] for component in sbom["components"])

    def test_it_names_the_files_of_the_release_by_their_hashes(
        self, sbom: dict[str, Any], wheel: Path, sdist: Path
    ) -> None:
        files = {
            reference["url"]: reference["hashes"]
            for reference in sbom["metadata"]["component"]["externalReferences"]
        }

        assert files == {
            file.name: [
                {"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}
            ]
            for file in (wheel, sdist)
        }


class TestInstalledWheel:
    def test_its_version_is_that_of_the_release(
        self, programs: Path, metadata: Message, tmp_path: Path
    ) -> None:
        printed = run(programs / "contact-gateway", "--version", cwd=tmp_path)

        assert printed == f"contact-gateway {metadata['Version']}\n"

    def test_it_prints_the_schema_of_the_repository(self, programs: Path, tmp_path: Path) -> None:
        printed = run(programs / "contact-gateway", "schema", "graphql", cwd=tmp_path)

        assert printed == (ROOT / "schema.graphql").read_text(encoding="utf-8")

    def test_it_migrates_an_empty_database(self, programs: Path, tmp_path: Path) -> None:
        run(programs / "contact-gateway", "migrate", cwd=tmp_path)

        assert (tmp_path / "contact-gateway.sqlite3").exists()

    def test_its_demo_creates_a_contact_in_a_database_of_the_working_directory(
        self, served: tuple[GatewayProcess, Path]
    ) -> None:
        process, folder = served
        with process.client(process.admin_key) as client:
            created = client.post(
                "/api/v1/contacts",
                json={"contact": {"advertiser_id": 2005, "email": "sam@example.com"}},
            )

        assert created.status_code == 201
        assert process.database == folder / "contact-gateway.sqlite3"
        assert process.database.exists()

    @pytest.mark.parametrize("path", ["/", "/docs", "/graphql"])
    def test_it_serves_the_files_of_its_pages(
        self, served: tuple[GatewayProcess, Path], path: str
    ) -> None:
        process, _ = served
        html = {"Accept": "text/html"}
        with process.client() as client:
            page = client.get(path, headers=html)
            files = re.findall(r"(?:src|href)=\"(?!data:)([^\"]+)\"", page.text)
            answers = [client.get(str(httpx.URL(path).join(file)), headers=html) for file in files]

        assert len(files) >= 4
        assert {answer.status_code for answer in answers} == {200}


class TestDocumentedCommands:
    def test_there_is_one_for_each_tool(self) -> None:
        assert [command.split()[:2] for command in COMMANDS] == [
            ["uvx", "contact-gateway"],
            ["pipx", "run"],
            ["pip", "install"],
            ["pipx", "install"],
        ]

    @pytest.mark.parametrize("command", [each for each in COMMANDS if each.endswith(" --demo")])
    def test_the_demo_runs_without_an_installation(
        self, command: str, wheel: Path, environment: Mapping[str, str], tmp_path: Path
    ) -> None:
        serve = _of_wheel(command.removesuffix(" --demo"), wheel)
        # What it installs is run only once.
        variables = {**environment, "PYTHONDONTWRITEBYTECODE": "1"}
        with gateway_process(tmp_path, "--demo", command=serve, environment=variables) as process:
            with process.client(process.member_key) as client:
                answer = client.get("/api/v1/advertisers")

            assert answer.status_code == 200
            assert process.database == tmp_path / "contact-gateway.sqlite3"

    def test_pipx_installs_the_command(
        self, wheel: Path, environment: Mapping[str, str], tmp_path: Path
    ) -> None:
        (command,) = (command for command in COMMANDS if command.startswith("pipx install"))
        run(*_of_wheel(command, wheel), cwd=tmp_path, environment=environment)

        program = Path(environment["PIPX_BIN_DIR"]) / "contact-gateway"
        assert run(program, "--version", cwd=tmp_path).startswith("contact-gateway ")
