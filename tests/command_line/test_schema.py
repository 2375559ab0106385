"""`contact-gateway schema` prints the GraphQL schema or the OpenAPI document."""

import json
import re
from pathlib import Path

import pytest

from support.process import Command

ROOT = Path(__file__).parents[2]
PRINTED = ROOT / "schema.graphql"
LAST_RELEASE = ROOT / "tests" / "schema_of_last_release.graphql"


@pytest.mark.parametrize(
    ("kind", "file"), [("graphql", "schema.graphql"), ("openapi", "openapi.json")]
)
def test_the_printed_schema_is_the_checked_in_one(run: Command, kind: str, file: str) -> None:
    result = run("schema", kind)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["graphql", "openapi"])
def test_printing_opens_no_database(run: Command, folder: Path, kind: str) -> None:
    run("schema", kind)

    assert list(folder.iterdir()) == []


def test_another_kind_exits_with_2(run: Command) -> None:
    assert run("schema", "soap").exit_code == 2


def test_the_schema_breaks_no_client_of_the_last_release(run: Command) -> None:
    """For an intended break: name it in the changelog, and copy the schema again."""
    result = run("schema", "check", str(LAST_RELEASE))

    assert (result.exit_code, result.stderr) == (0, ""), result.stdout


@pytest.mark.parametrize(
    ("now", "before", "change", "exit_code"),
    [
        (
            "  role: Role!\n}",
            "  role: Role!\n  name: String\n}",
            ("breaking", "FIELD_REMOVED", "Field Viewer.name was removed."),
            1,
        ),
        (
            "dryRun: Boolean = false",
            "dryRun: Boolean = true",
            (
                "dangerous",
                "ARG_DEFAULT_VALUE_CHANGE",
                "Mutation.createContact(dryRun:) has changed defaultValue from true to false.",
            ),
            0,
        ),
    ],
    ids=["breaking", "dangerous"],
)
def test_changes_since_an_earlier_schema_are_named(
    run: Command, folder: Path, now: str, before: str, change: tuple[str, ...], exit_code: int
) -> None:
    schema = PRINTED.read_text(encoding="utf-8")
    assert now in schema
    (folder / "old.graphql").write_text(schema.replace(now, before, 1), encoding="utf-8")

    result = run("schema", "check", "old.graphql")
    by_json = run("schema", "check", "--json", "old.graphql")

    severity, kind, description = change
    assert (result.exit_code, result.stdout) == (
        exit_code,
        f"{severity:<9} {kind}: {description}\n",
    )
    assert (by_json.exit_code, json.loads(by_json.stdout)) == (
        exit_code,
        [{"severity": severity, "type": kind, "description": description}],
    )


def test_an_unchanged_schema_prints_an_empty_array(run: Command) -> None:
    result = run("schema", "check", "--json", str(PRINTED))

    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Syntax Error"),
        (b"{ viewer { label } }", "Query root type must be provided"),
        (b"type Query { a: Nothing }", "Unknown type 'Nothing'"),
        (b"\xff", "it is not in UTF-8"),
        (None, "does not exist"),
    ],
    ids=["empty", "an operation", "an unknown type", "not UTF-8", "missing"],
)
def test_a_file_that_is_not_a_schema_is_refused(
    run: Command, folder: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (folder / "old.graphql").write_bytes(content)

    result = run("schema", "check", "old.graphql")

    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in " ".join(re.sub("[│\n]", "", result.stderr).split())
