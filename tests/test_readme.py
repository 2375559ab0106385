"""The README is short and true: its commands run, and its table is that of the outcomes."""

import csv
import json
import re
from pathlib import Path

import pytest

from contact_gateway.contacts.outcomes import BATCH_CODES, ErrorCode
from support.documentation import ROOT, Block, Runner, delete_contacts
from support.process import GatewayProcess

FILE = ROOT / "README.md"
README = FILE.read_text(encoding="utf-8")
OUTCOMES = (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8")
(IMPORT,) = re.findall(r"^    (GATEWAY_API_KEY=.*(?:\n    .*)*)", README, re.MULTILINE)
CALLS = re.findall(r"^    (curl .*(?:\n    .*)*)", README, re.MULTILINE)


def test_it_has_at_most_a_hundred_lines() -> None:
    assert len(README.splitlines()) <= 100


def test_the_first_two_shell_blocks_run_and_test_the_gateway() -> None:
    blocks = re.findall(
        r"^```(?:sh|bash|shell|console)\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )

    assert [block.strip() for block in blocks] == ["scripts/serve", "scripts/test"]
    for block in blocks:
        assert (ROOT / block.strip()).stat().st_mode & 0o111


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in BATCH_CODES])
def test_the_table_of_outcomes_is_that_of_the_documentation(code: ErrorCode) -> None:
    """The statuses and types there are those of answers that its examples got."""
    type_name = "".join(word.capitalize() for word in code.split("_")) + "Error"
    section = OUTCOMES.partition(f"\n### {code}\n")[2].partition("\n### ")[0]
    (status,) = re.findall(r"^HTTP/1.1 (\d+)", section, re.MULTILINE)

    assert f'"__typename": "{type_name}"' in section
    assert re.search(rf"\| `{type_name}`.*\| {status} `{code}` \|", README)


@pytest.mark.usefixtures("curl")
def test_the_curl_calls_create_contacts(
    demo: GatewayProcess, demo_folder: Path, tmp_path: Path
) -> None:
    delete_contacts(demo_folder / "contact-gateway.sqlite3")
    runner = Runner.of_demo(tmp_path, demo)

    first_graphql, second_graphql, first_rest, second_rest = (
        runner.output_of(Block(FILE, 1, "sh", call, {})) for call in CALLS for _ in range(2)
    )

    assert '"__typename":"Contact"' in first_graphql
    assert '"__typename":"ConflictError"' in second_graphql
    assert first_rest.startswith("HTTP/1.1 201")
    assert "idempotent-replayed: true" in second_rest
    assert body_of(second_rest) == body_of(first_rest)


def test_the_spreadsheet_is_imported(
    demo: GatewayProcess, demo_folder: Path, tmp_path: Path
) -> None:
    delete_contacts(demo_folder / "contact-gateway.sqlite3")
    command = IMPORT.replace(".venv/bin/", "").replace("examples", f"{ROOT}/examples")

    with Runner.of_demo(tmp_path, demo) as runner:
        runner.output_of(Block(FILE, 1, "sh", f"{command} || [ $? = 1 ]", {}))

    with (tmp_path / "report.csv").open(encoding="utf-8-sig", newline="") as report:
        outcomes = [row["import_outcome"] for row in csv.DictReader(report)]
    assert outcomes == ["created", "created", "created", "invalid", "not_found"]


@pytest.mark.usefixtures("curl")
def test_the_next_pages_show_what_they_print_after_it(
    demo: GatewayProcess, demo_folder: Path, tmp_path: Path
) -> None:
    """A reader keeps the database: no page may create the contact of a later one."""
    delete_contacts(demo_folder / "contact-gateway.sqlite3")
    with Runner.of_demo(tmp_path, demo) as runner:
        for call in CALLS:
            runner.output_of(Block(FILE, 1, "sh", call, {}))
        for page in ("quickstart.md", "clients.md", "mcp.md"):
            runner.run_page(ROOT / "docs" / page)


def body_of(answer: str) -> object:
    """Return the JSON below an answer's head."""
    body: object = json.loads(answer.replace("\r\n", "\n").partition("\n\n")[2])
    return body
