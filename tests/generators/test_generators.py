"""The clients that generators make of `openapi.json` are strictly typed, and work with the demo.

scripts/generators runs these tests: they take some minutes, and need packages of two registries.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from support.clock import WATCHDOG_SECONDS
from support.process import GatewayProcess, clean_environment, gateway_process
from support.programs import node_with_packages

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
PACKAGES: Final = "../node_modules"
DOCUMENT: Final = "../openapi.json"

pytestmark = pytest.mark.skipif(
    "GENERATORS" not in os.environ, reason="scripts/generators runs it, in some minutes"
)

# The command that makes a client, by the folder of the generator.
TYPESCRIPT: Final[Mapping[str, Sequence[str]]] = {
    "openapi-typescript": (
        f"{PACKAGES}/openapi-typescript/bin/cli.js",
        DOCUMENT,
        "--output",
        "generated/schema.ts",
    ),
    "orval-7": (f"{PACKAGES}/orval-7/dist/bin/orval.js", "--config", "orval.config.cjs"),
    "orval-8": (f"{PACKAGES}/orval-8/dist/bin/orval.mjs", "--config", "orval.config.cjs"),
    "hey-api": (
        f"{PACKAGES}/@hey-api/openapi-ts/bin/run.js",
        f"--input={DOCUMENT}",
        "--output=generated",
        "--client=@hey-api/client-fetch",
    ),
}
PYTHON: Final[Mapping[str, Sequence[str]]] = {
    "openapi-python-client": (
        "openapi-python-client",
        "generate",
        "--fail-on-warning",
        f"--path={DOCUMENT}",
        "--meta=none",
        "--output-path=generated",
    ),
    "datamodel-code-generator": (
        "datamodel-codegen",
        f"--input={DOCUMENT}",
        "--input-file-type=openapi",
        "--output=generated.py",
        "--output-model-type=pydantic_v2.BaseModel",
        "--target-python-version=3.11",
        "--use-annotated",
        "--naming-strategy=parent-prefixed",
        "--formatters=builtin",
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this folder with npm's packages and the document."""
    project = tmp_path_factory.mktemp("npm") / HERE.name
    node_with_packages(HERE, project)
    shutil.copy(ROOT / "openapi.json", project)
    return project


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), "--demo") as running:
        yield running


def _run(folder: Path, demo: GatewayProcess, *command: str) -> str:
    """Run a program that must succeed; return what it prints."""
    completed = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment()
        | {"CONTACT_GATEWAY": demo.address, "API_KEY": demo.admin_key, "PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def _check_output(output: str, email: str) -> None:
    created = re.search(r"^contact (\d+)$", output, re.MULTILINE)
    assert created is not None, output
    assert output.splitlines() == [
        "a preview",
        f"contact {created[1]}",
        f"CONFLICT {created[1]}",
        "INVALID_INPUT contact.email",
        "UNAUTHORIZED",
        f"contact {created[1]} {email}",
    ]


@pytest.mark.parametrize("name", TYPESCRIPT)
def test_a_typescript_client_is_strictly_typed_and_works(
    name: str, project: Path, demo: GatewayProcess
) -> None:
    folder = project / name
    for shared in ("use.ts", "tsconfig.json"):
        shutil.copy(project / shared, folder)
    if name.startswith("orval"):
        shutil.copytree(project / "orval", folder, dirs_exist_ok=True)
    email = f"{name}@example.com"

    _run(folder, demo, "node", *TYPESCRIPT[name])
    _run(folder, demo, "node", f"{PACKAGES}/typescript/bin/tsc")
    _check_output(_run(folder, demo, "node", "build/use.js", email), email)


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client_is_strictly_typed_and_works(
    name: str, project: Path, demo: GatewayProcess
) -> None:
    folder = project / name
    shutil.copy(project / "scenario.py", folder)
    uv = (str(ROOT / ".uv" / "bin" / "uv"), "run", "--quiet", "--no-project", "--python=3.11")
    with_packages = (*uv, "--with-requirements", "../requirements.txt")
    email = f"{name}@example.com"

    _run(folder, demo, *with_packages, *PYTHON[name])
    _run(folder, demo, *with_packages, "mypy", "use.py")
    _check_output(_run(folder, demo, *with_packages, "python", "use.py", email), email)
