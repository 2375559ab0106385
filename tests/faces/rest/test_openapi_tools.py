"""The OpenAPI document in third-party tools: two linters and a mock server."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from contact_gateway.contacts.source import HIENERGY_FILTERS, OWN_FILTERS, KnownFilters
from contact_gateway.faces.rest.openapi import openapi_document
from support.clock import WATCHDOG_SECONDS
from support.faces import Json
from support.programs import free_port, node_with_packages

PROJECT = Path(__file__).parent / "openapi_tools"
DOCUMENT: Json = openapi_document()
OFFLINE = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
BOTH = pytest.mark.parametrize(
    "filters", [OWN_FILTERS, HIENERGY_FILTERS], ids=["own store", "in front of HiEnergy"]
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("npm") / PROJECT.name
    node_with_packages(PROJECT, project)
    return project


def _linted(project: Path, filters: KnownFilters, *command: str) -> Json:
    """Lint the document of a source of truth; return what the linter prints as JSON."""
    (project / "openapi.json").write_text(json.dumps(openapi_document(filters)), encoding="utf-8")
    linted = subprocess.run(
        (project / "node_modules" / ".bin" / command[0], *command[1:], "openapi.json"),
        cwd=project,
        env=os.environ | OFFLINE,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    # They exit with 1 for what they find, too.
    assert linted.stdout.startswith(("{", "[")), linted.stderr
    return json.loads(linted.stdout)


@BOTH
def test_redocly_has_no_warning(project: Path, filters: KnownFilters) -> None:
    found = _linted(project, filters, "redocly", "lint", "--extends=recommended", "--format=json")

    assert found["problems"] == []


@BOTH
def test_spectral_has_no_warning(project: Path, filters: KnownFilters) -> None:
    command = ("spectral", "lint", "--ruleset=spectral.yaml", "--format=json", "--quiet")

    assert _linted(project, filters, *command) == []


@pytest.fixture(scope="module")
def mock(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Return a client of Prism, which answers from the document alone."""
    file = tmp_path_factory.mktemp("prism") / "openapi.json"
    file.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    port = free_port()
    program = project / "node_modules" / ".bin" / "prism"
    with (
        subprocess.Popen(
            (program, "mock", "--host=127.0.0.1", f"--port={port}", "--verboseLevel=error", file),
            stdout=subprocess.DEVNULL,
        ) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"X-Api-Key": "any"},
            timeout=WATCHDOG_SECONDS,
            trust_env=False,
        ) as client,
    ):
        try:
            retry(
                retry=retry_if_exception_type(httpx.ConnectError),
                wait=wait_fixed(0.05),
                stop=stop_after_delay(WATCHDOG_SECONDS),
                reraise=True,
            )(client.get)("/schema")
            yield client
        finally:
            process.terminate()


def _resolved(part: Json) -> Json:
    """Return a part of the document, or the component that it refers to."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return DOCUMENT["components"][kind][name]


def test_prism_mocks_every_answer_of_every_operation(
    mock: httpx.Client, subtests: pytest.Subtests
) -> None:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            needed = [
                parameter["name"]
                for parameter in map(_resolved, operation.get("parameters", ()))
                if parameter["in"] == "query" and parameter.get("required")
            ]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            for status, response in operation["responses"].items():
                for name, example in response["content"]["application/json"]["examples"].items():
                    with subtests.test(f"{method} {path} {status} {name}"):
                        answer = mock.request(
                            method,
                            path.replace("{id}", "42"),
                            params=dict.fromkeys(needed, "northwind.example"),
                            headers={"Prefer": f"code={status}, example={name}"},
                            json=body and body["examples"]["default"]["value"],
                        )

                        assert answer.status_code == int(status)
                        assert answer.json() == _resolved(example)["value"]
