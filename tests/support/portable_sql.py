"""What of PostgreSQL's SQL the systems that docs/scaling.md names have in common.

The lists are of what is allowed. A feature that has not been compared with these systems is a
problem too: look it up in their documentation before it is added here, and to the page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import pgparse

_Fields: TypeAlias = Mapping[str, Any]  # JSON

STATEMENTS: Final = frozenset(
    {
        "SelectStmt",
        "InsertStmt",
        "UpdateStmt",
        "DeleteStmt",
        "TransactionStmt",
        "CreateStmt",
        "AlterTableStmt",
        "IndexStmt",
        "DropStmt",
    }
)
FUNCTIONS: Final = frozenset({"count", "like_escape", "max", "min", "split_part", "strpos"})
CORRELATED: Final = "a correlated subquery over a distributed table"
SEQUENCE_FUNCTIONS: Final = frozenset(
    {"pg_get_serial_sequence", "pg_sequence_last_value", "setval"}
)
"""For `store copy` and `store check` alone, which no gateway needs."""
IDENTITY_FUNCTIONS: Final = frozenset({"current_database", "pg_postmaster_start_time"})
"""For `store copy`, which does without them where they are missing."""
PRIVILEGE_FUNCTIONS: Final = frozenset({"current_schema", "has_schema_privilege"})
"""For `doctor` alone. CockroachDB and YugabyteDB have them too."""
CATALOGUE_FUNCTIONS: Final = frozenset({"pg_table_is_visible", "to_regclass"})
LOCAL_SETTINGS: Final = frozenset(
    {"enable_seqscan", "idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"}
)
EXTENSIONS: Final = frozenset({"pg_trgm"})
LOCK_STRENGTHS: Final = frozenset(
    {"LCS_FORKEYSHARE", "LCS_FORSHARE", "LCS_FORNOKEYUPDATE", "LCS_FORUPDATE"}
)
INDEX_KINDS: Final = frozenset({"btree", "gin"})
CONSTRAINTS: Final = frozenset(
    {
        "CONSTR_DEFAULT",
        "CONSTR_FOREIGN",
        "CONSTR_IDENTITY",
        "CONSTR_NOTNULL",
        "CONSTR_NULL",
        "CONSTR_PRIMARY",
        "CONSTR_UNIQUE",
    }
)
_ARRAY_COMPARISONS: Final = frozenset({"AEXPR_OP_ANY", "AEXPR_OP_ALL"})
_DISTRIBUTED: Final = "contacts"
"""On Citus; all other tables are reference tables there."""


def problems(sql: str, functions: frozenset[str] = FUNCTIONS) -> Sequence[str]:
    """Return what in an SQL text not all of the systems have."""
    try:
        statements = pgparse.parse(sql)
    except pgparse.PGQueryError as error:
        return [f"not read by PostgreSQL's parser: {error}"]
    return [problem for each in statements for problem in _problems(each["stmt"], functions)]


def _problems(statement: _Fields, functions: frozenset[str]) -> Iterator[str]:
    ((kind, fields),) = statement.items()
    if kind == "VariableSetStmt":
        yield from _set_problems(fields)
    elif kind == "CreateExtensionStmt":
        if fields["extname"] not in EXTENSIONS:
            yield f"the extension {fields['extname']}"
    elif kind not in STATEMENTS:
        yield f"the statement {kind}"
    reads_catalogue = _reads_catalogue_only(statement)
    for name, part in _parts(statement):
        if part.get("relpersistence", "p") != "p":
            yield "a temporary or unlogged table"
        if name in _RULES:
            yield from _RULES[name](part)
        if not reads_catalogue:
            yield from _problems_beside_the_catalogue(name, part)
        if name == "FuncCall":
            known = functions | CATALOGUE_FUNCTIONS if reads_catalogue else functions
            yield from _function_problems(part, known)


def _function_problems(part: _Fields, known: frozenset[str]) -> Iterator[str]:
    function = part["funcname"][-1]["String"]["sval"]
    if function == "set_config":
        is_local = part["args"][2].get("A_Const", {}).get("boolval", {}).get("boolval", False)
        if not is_local:
            yield "set_config for the session"
    elif function not in known:
        yield f"the function {function}"


def _set_problems(fields: _Fields) -> Iterator[str]:
    """A setting must end with the transaction: a pooler gives the session to other clients."""
    name = fields.get("name")
    if name == "TRANSACTION":
        return
    if not fields.get("is_local", False):
        yield f"SET {name} without LOCAL"
    elif name not in LOCAL_SETTINGS:
        yield f"the setting {name}"


def _lock_problems(part: _Fields) -> Iterator[str]:
    if part["waitPolicy"] != "LockWaitBlock":
        yield f"{part['waitPolicy']}, instead of waiting for a row lock"
    if part["strength"] not in LOCK_STRENGTHS:
        yield f"the row lock {part['strength']}"


def _constraint_problems(part: _Fields) -> Iterator[str]:
    if part["contype"] not in CONSTRAINTS:
        yield f"the constraint {part['contype']}"
    if part.get("deferrable", False):
        yield "a deferrable constraint"


def _index_problems(part: _Fields) -> Iterator[str]:
    kind = part.get("accessMethod", "btree")
    if kind not in INDEX_KINDS:
        yield f"an index of the kind {kind}"


def _new_table_problems(part: _Fields) -> Iterator[str]:
    if "partspec" in part or "inhRelations" in part:
        yield "a partitioned or inherited table"


def _insert_problems(part: _Fields) -> Iterator[str]:
    values = part.get("selectStmt", {}).get("SelectStmt", {}).get("valuesLists", [])
    if any(name == "SubLink" for name, _ in _parts(values)):
        yield "a subquery in the VALUES of an INSERT"


def _cte_problems(part: _Fields) -> Iterator[str]:
    if "SelectStmt" not in part["ctequery"]:
        yield "a CTE that writes"


def _subselect_problems(part: _Fields) -> Iterator[str]:
    if part.get("lateral", False):
        yield "a LATERAL subquery"


def _sublink_problems(part: _Fields) -> Iterator[str]:
    if _DISTRIBUTED in _tables(part) and _is_correlated(part):
        yield CORRELATED


_RULES: Final[Mapping[str, Callable[[_Fields], Iterator[str]]]] = {
    "CommonTableExpr": _cte_problems,
    "Constraint": _constraint_problems,
    "CreateStmt": _new_table_problems,
    "IndexStmt": _index_problems,
    "InsertStmt": _insert_problems,
    "LockingClause": _lock_problems,
    "RangeSubselect": _subselect_problems,
    "SubLink": _sublink_problems,
}


def _problems_beside_the_catalogue(name: str, part: _Fields) -> Iterator[str]:
    """Each of the systems answers the toolkit's queries of the catalogue, whatever they use."""
    if (
        name in {"A_ArrayExpr", "A_Indirection"}
        or "arrayBounds" in part
        or part.get("kind") in _ARRAY_COMPARISONS
    ):
        yield "an array"
    if name == "CollateClause" or "collClause" in part or "collation" in part:
        yield "a collation"


def _reads_catalogue_only(statement: _Fields) -> bool:
    """Return whether a query is one of the driver or the toolkit, over the system catalogue."""
    relations = [part for name, part in _parts(statement) if name == "RangeVar"]
    return "SelectStmt" in statement and all(
        relation.get("schemaname") == "pg_catalog" or relation["relname"].startswith("pg_")
        for relation in relations
    )


def _is_correlated(subquery: _Fields) -> bool:
    """Return whether a subquery names a table that is not its own."""
    own = {
        part.get("alias", {}).get("aliasname", part.get("relname"))
        for name, part in _parts(subquery)
        if name in {"RangeVar", "RangeSubselect"}
    }
    columns = (part["fields"] for name, part in _parts(subquery) if name == "ColumnRef")
    return any(len(fields) > 1 and fields[0]["String"]["sval"] not in own for fields in columns)


def _tables(tree: object) -> frozenset[str]:
    return frozenset(part["relname"] for name, part in _parts(tree) if name == "RangeVar")


def _parts(tree: object) -> Iterator[tuple[str, _Fields]]:
    """Yield all parts of a parse tree, each with its name, or with its place in another part."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if isinstance(value, Mapping):
                yield name, value
            yield from _parts(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _parts(item)
