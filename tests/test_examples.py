"""Every file of `examples/` does what it says, against the demo."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate

from support.process import GatewayProcess, clean_environment

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DOCUMENTS = sorted((EXAMPLES / "graphql").glob("*.graphql"))
SCRIPTS = sorted((EXAMPLES / "curl").glob("*.sh"))

# A JSON answer of any shape.
Json = Any


def run(
    program: tuple[str | Path, ...], demo: GatewayProcess, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"CONTACT_GATEWAY": demo.address, "API_KEY": key or demo.admin_key}
    return subprocess.run(
        program,
        env=clean_environment() | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def run_curl(name: str, demo: GatewayProcess, key: str | None = None) -> Json:
    completed = run((EXAMPLES / "curl" / name,), demo, key)
    assert (completed.returncode, completed.stderr) == (0, "")
    return json.loads(completed.stdout)


def ask(name: str, demo: GatewayProcess, key: str | None = None) -> Mapping[str, Json]:
    variables = EXAMPLES / "graphql" / f"{name}.variables.json"
    body = {
        "query": (EXAMPLES / "graphql" / f"{name}.graphql").read_text("utf-8"),
        "variables": json.loads(variables.read_text("utf-8")) if variables.exists() else {},
    }
    with demo.client(key or demo.admin_key) as client:
        answer: Json = client.post("/graphql", json=body).json()
    assert "errors" not in answer, answer
    return dict(answer["data"])


class TestIndex:
    def test_it_links_every_example_and_no_other(self) -> None:
        index = (EXAMPLES / "README.md").read_text("utf-8")
        linked = {piece.split(")")[0] for piece in index.split("](")[1:]}
        files = {
            path.relative_to(EXAMPLES).as_posix()
            for folder in ("curl", "graphql", "python", "sdk")
            for path in (EXAMPLES / folder).iterdir()
            if path.is_file()
        }

        assert linked == files | {"contact-form/README.md"}

    def test_its_commands_run_files_of_the_repository(self) -> None:
        index = (EXAMPLES / "README.md").read_text("utf-8")
        serve, *settings, python = re.findall(r"^    (.*)$", index, re.MULTILINE)
        uv, run_script, script, *arguments = python.split()

        assert (serve, uv, run_script) == ("scripts/serve", ".uv/bin/uv", "run")
        assert all(setting.startswith("export ") for setting in settings)
        assert ROOT / script == TestPython.SCRIPT
        assert len(arguments) == 2


@pytest.mark.usefixtures("curl")
class TestCurl:
    def test_create_by_rest(self, demo: GatewayProcess) -> None:
        answers = [run_curl("create-by-rest.sh", demo) for _ in range(2)]

        attributes = answers[0]["data"]["attributes"]
        assert (attributes["advertiser_id"], attributes["name"]) == (1001, "Maya Lindqvist")
        assert answers[0] == answers[1]

    def test_create_by_graphql(self, demo: GatewayProcess) -> None:
        answers = [run_curl("create-by-graphql.sh", demo) for _ in range(2)]

        contact = answers[0]["data"]["createContact"]
        assert (contact["__typename"], contact["advertiserId"]) == ("Contact", "1001")
        assert contact["name"] == "Noor Haddad"
        replay = {"extensions": {"idempotentReplayed": ["createContact"]}}
        assert answers[1] == answers[0] | replay

    def test_dry_run(self, demo: GatewayProcess) -> None:
        answer = run_curl("dry-run.sh", demo)

        assert answer["meta"]["dry_run"] is True
        assert answer["data"]["id"] is None
        assert answer["data"]["attributes"]["advertiser_id"] == 1002

    def test_repeat_safely(self, demo: GatewayProcess) -> None:
        completed = run((EXAMPLES / "curl" / "repeat-safely.sh",), demo)

        assert (completed.returncode, completed.stderr) == (0, "")
        first, second = (line.split() for line in completed.stdout.splitlines())
        assert first[0] == "201"
        assert second == [*first[:2], "true"]

    def test_read_back(self, demo: GatewayProcess) -> None:
        created = run_curl("create-by-rest.sh", demo)["data"]

        listed = run_curl("read-back.sh", demo, demo.member_key)["data"]

        assert created in listed

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_a_missing_variable_stops_it_before_anything_is_sent(self, script: Path) -> None:
        environment = {
            name: value
            for name, value in clean_environment().items()
            if name not in {"CONTACT_GATEWAY", "API_KEY"}
        }

        completed = subprocess.run(
            (script,), env=environment, capture_output=True, encoding="utf-8", check=False
        )

        assert completed.returncode != 0
        assert "CONTACT_GATEWAY" in completed.stderr

    def test_a_refusal_prints_the_envelope_and_fails(self, demo: GatewayProcess) -> None:
        script = EXAMPLES / "curl" / "create-by-rest.sh"

        completed = run((script,), demo, demo.member_key)

        assert completed.returncode == 22
        assert json.loads(completed.stdout)["error"]["code"] == "FORBIDDEN"


class TestGraphQL:
    @pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
    def test_it_is_valid_and_has_one_named_operation(self, path: Path) -> None:
        schema = build_schema((ROOT / "schema.graphql").read_text("utf-8"))
        document = parse(path.read_text("utf-8"))

        assert validate(schema, document) == []
        (operation,) = (
            node for node in document.definitions if isinstance(node, OperationDefinitionNode)
        )
        assert operation.name is not None
        in_words = "".join(word.capitalize() for word in path.stem.split("-"))
        assert operation.name.value == in_words

    def test_create_contact_handles_every_member_of_the_union(self) -> None:
        sdl = (ROOT / "schema.graphql").read_text("utf-8")
        (line,) = (
            line for line in sdl.splitlines() if line.startswith("union CreateContactResult")
        )
        members = line.partition("=")[2].replace(" ", "").split("|")
        document = (EXAMPLES / "graphql" / "create-contact.graphql").read_text("utf-8")

        assert [member for member in members if f" on {member} {{" not in document] == []

    def test_create_contact(self, demo: GatewayProcess) -> None:
        contact = ask("create-contact", demo)["createContact"]

        assert contact["__typename"] == "Contact"
        assert contact["name"] == "Tomas Berg"
        assert contact["advertiser"]["id"] == "1001"
        assert ask("create-contact", demo)["createContact"] == contact

    def test_dry_run(self, demo: GatewayProcess) -> None:
        preview = ask("dry-run", demo)["createContact"]

        assert preview["__typename"] == "ContactPreview"
        assert preview["advertiser"]["id"] == "9007199254740993"

    def test_recent_contacts(self, demo: GatewayProcess) -> None:
        created = ask("create-contact", demo)["createContact"]

        page = ask("recent-contacts", demo, demo.member_key)["contacts"]

        assert created["id"] in {contact["id"] for contact in page["nodes"]}
        assert page["pageInfo"]["currentPage"] == 1

    def test_find_advertiser(self, demo: GatewayProcess) -> None:
        found = ask("find-advertiser", demo, demo.member_key)["advertisers"]["nodes"]

        assert {advertiser["hienergy"]["id"] for advertiser in found} == {"1002"}
        assert {
            equivalent["networkName"] for equivalent in found[0]["hienergy"]["equivalents"]
        } == {"Rakuten", "Impact"}


class TestPython:
    SCRIPT = EXAMPLES / "python" / "create_contact.py"

    def submit(
        self, demo: GatewayProcess, advertiser: str, email: str, key: str | None = None
    ) -> tuple[int, str]:
        completed = run((sys.executable, self.SCRIPT, advertiser, email), demo, key)
        assert completed.stderr == ""
        return completed.returncode, completed.stdout

    def test_it_creates_a_contact_and_a_second_submission_conflicts(
        self, demo: GatewayProcess
    ) -> None:
        status, line = self.submit(demo, "2001", "python@example.com")
        assert status == 0
        assert line.endswith(" on HiEnergy advertiser 1001.\n")
        contact = line.split()[2]

        assert self.submit(demo, "1001", "Python@example.com") == (
            1,
            f"Contact {contact} already has this address.\n",
        )

    @pytest.mark.parametrize(
        ("advertiser", "email", "start"),
        [
            pytest.param("2001", "nobody", "Invalid input: input.email: ", id="invalid"),
            pytest.param("3001", "a@example.com", "Advertiser not found: ", id="not found"),
        ],
    )
    def test_an_error_is_printed(
        self, demo: GatewayProcess, advertiser: str, email: str, start: str
    ) -> None:
        status, sentence = self.submit(demo, advertiser, email)

        assert status == 1
        assert sentence.startswith(start)

    @pytest.mark.parametrize("role", ["member", "nobody"])
    def test_a_refused_key_is_printed(self, demo: GatewayProcess, role: str) -> None:
        key = demo.member_key if role == "member" else "cgw_typo"

        status, sentence = self.submit(demo, "2001", "b@example.com", key)

        assert status == 1
        assert sentence.startswith("The API key was refused: ")
