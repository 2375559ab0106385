"""`schema.graphql` passes the recommended rules of @graphql-eslint, with named exceptions."""

import json
import subprocess
from pathlib import Path

import pytest

from support.clock import WATCHDOG_SECONDS
from support.programs import node_with_packages

LINT = Path(__file__).parent / "schema_lint"
SCHEMA = Path(__file__).parents[3] / "schema.graphql"


@pytest.fixture(scope="module")
def eslint(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the path of Node, and the folder with ESLint and its configuration."""
    folder = tmp_path_factory.mktemp("lint") / "schema_lint"
    return node_with_packages(LINT, folder), folder


def _broken_rules(eslint: tuple[str, Path], schema: str) -> set[str]:
    node, folder = eslint
    (folder / "schema.graphql").write_text(schema, encoding="utf-8")
    ran = subprocess.run(
        (node, "node_modules/eslint/bin/eslint.js", "--format", "json", "schema.graphql"),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    # 2 is a failure of ESLint itself.
    assert ran.returncode in {0, 1}, ran.stderr
    (file,) = json.loads(ran.stdout)
    return {f"{each['ruleId']} at line {each['line']}" for each in file["messages"]}


def test_the_recommended_rules_hold(eslint: tuple[str, Path]) -> None:
    assert _broken_rules(eslint, SCHEMA.read_text(encoding="utf-8")) == set()


def test_the_rules_are_checked(eslint: tuple[str, Path]) -> None:
    """The exceptions are only for the types that they name."""
    broken = _broken_rules(eslint, "type Query {\n  getKeys: Keys\n}\ntype Keys {\n  a: Int\n}\n")

    assert broken == {
        "@graphql-eslint/naming-convention at line 2",
        "@graphql-eslint/require-description at line 1",
        "@graphql-eslint/require-description at line 2",
        "@graphql-eslint/require-description at line 4",
        "@graphql-eslint/strict-id-in-types at line 4",
    }
