"""`contact-gateway schema` prints the GraphQL schema or the OpenAPI document."""

import json
from pathlib import Path

import pytest

from support.process import Command

PRINTED = Path(__file__).parents[2] / "schema.graphql"


def test_graphql_is_the_checked_in_schema(run: Command) -> None:
    result = run("schema", "graphql")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == PRINTED.read_text(encoding="utf-8")


def test_openapi_is_a_3_1_document_of_the_operation(run: Command) -> None:
    result = run("schema", "openapi")

    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["openapi"].startswith("3.1.")
    assert document["paths"]["/contacts"]["post"]["operationId"] == "createContact"


@pytest.mark.parametrize("kind", ["graphql", "openapi"])
def test_printing_opens_no_database(run: Command, folder: Path, kind: str) -> None:
    run("schema", kind)

    assert list(folder.iterdir()) == []


def test_another_kind_exits_with_2(run: Command) -> None:
    assert run("schema", "soap").exit_code == 2
