"""Plans give what graphql-core's executor gives, in every document and for all variables."""

import os
from functools import partial
from typing import Final

import pytest
from graphql import ExecutionResult, GraphQLSchema, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contact_gateway.faces.graphql.schema import strawberry_schema
from graphql_plans import Compiler, Result
from support.compared_executors import by_plan, check_that_both_agree, is_planned, read
from support.faces import CREATE_CONTACT, Json
from support.fake_source import context
from support.generated_documents import Case, requests
from support.nasty_schema import SCHEMA, Trace

# There is no public name for what Strawberry makes for graphql-core.
NASTY: Final[GraphQLSchema] = SCHEMA._schema  # noqa: SLF001
OWN: Final[GraphQLSchema] = strawberry_schema()._schema  # noqa: SLF001
# Both executors let go of what a selection set had not begun when it failed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
GENERATED: Final = settings(
    max_examples=int(os.environ.get("COMPARED_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@GENERATED
@given(requests(NASTY))
def test_any_request_to_a_nasty_schema(case: Case) -> None:
    check_that_both_agree(NASTY, case.document, case.variables, Trace)


@GENERATED
@given(requests(OWN), st.sampled_from(["admin", "admin", "member", "nobody", None]))
def test_any_request_to_the_gateways_schema(case: Case, key: str | None) -> None:
    check_that_both_agree(OWN, case.document, case.variables, lambda: context(key))


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        pytest.param("{ __typename again { __typename } }", {}, id="type names"),
        pytest.param("{ a: again { b: shouted } a: again { c: shouted } }", {}, id="merged fields"),
        pytest.param(
            "{ ...A ...A } fragment A on Query { again { ...B } } fragment B on Query { shouted }",
            {},
            id="fragments in fragments, twice",
        ),
        pytest.param(
            "query ($on: Boolean!) { shouted @include(if: $on) a: shouted @skip(if: $on) }",
            {"on": True},
            id="conditions",
        ),
        pytest.param(
            "query ($on: Boolean! = true) { a: again { shouted @skip(if: $on) } }",
            {},
            id="a condition by default",
        ),
        pytest.param(
            "query ($on: Boolean = true) { shouted @skip(if: $on) }",
            {"on": None},
            id="a condition that is null",
        ),
        pytest.param("{ things { __typename ... on Node { id kind } } }", {}, id="a union"),
        pytest.param("{ node { id nextNode { id } } }", {}, id="an interface"),
        pytest.param("{ thing(number: 3) { ... on Odd { odd } } }", {}, id="is_type_of refuses"),
        pytest.param("{ thing(number: 4) { __typename } }", {}, id="of no type of a union"),
        pytest.param("{ lists { numbers nullable nested deep } }", {}, id="lists with nulls"),
        pytest.param(
            "{ lists { nullable awaited awaitedRequired } }", {}, id="awaitables in lists"
        ),
        pytest.param("{ lists { stream generated } }", {}, id="iterables"),
        pytest.param(
            "{ failures { slowly failingRequiredLater failingRequired } shouted }",
            {},
            id="a null that goes up past what is still awaited",
        ),
        pytest.param(
            'mutation { a: note(text: "1") b: noteNow(text: "2") c: note(text: "3") }',
            {},
            id="mutations in series",
        ),
        pytest.param(
            'mutation { a: note(text: "1", failure: "1") b: noteRequired(text: "") { __typename } '
            'c: noteNow(text: "never") }',
            {},
            id="a mutation whose failure ends the series",
        ),
        pytest.param(
            "query ($o: Outer!) { laterEcho(outer: $o) }", {"o": {}}, id="a field missing"
        ),
        pytest.param(
            "query ($o: Outer!) { laterEcho(outer: $o) }",
            {"o": {"id": 1, "inner": {"even": 3}, "nothing": 1}},
            id="many things wrong",
        ),
        pytest.param(
            "query ($n: [Int!]! = [1]) { echo(numbers: $n) }", {}, id="a variable's default"
        ),
        pytest.param("query ($t: Tree!) { tree(tree: $t) }", {"t": {}}, id="a type within itself"),
        pytest.param(
            "query ($e: Even) { echo(numbers: [], even: $e) }", {"e": 3}, id="a scalar that refuses"
        ),
        pytest.param(
            "query ($r: Float, $id: ID!) { laterEcho(outer: {id: $id, ratio: $r}) }",
            {"id": "x"},
            id="a variable in a literal that is not given",
        ),
        pytest.param("{ denied shouted }", {}, id="permissions and extensions"),
        pytest.param("{ shapes { __typename } }", {}, id="one class, and types by value"),
        pytest.param("{ edge { __typename ... on LeafEdge { node { id } } } }", {}, id="generics"),
        pytest.param("query ($t: String) { shouted(text: $t) }", {}, id="an argument's default"),
        pytest.param(
            'query ($i: Inner = {}) { laterEcho(outer: {id: "1", inner: $i}) }',
            {"i": {}},
            id="an input field without a default",
        ),
        pytest.param("{ values { parentNames number bigger: big } }", {}, id="a parent"),
        pytest.param("{ __schema { queryType { name } } }", {}, id="introspection"),
        pytest.param('{ again { __type(name: "Leaf") { name } } }', {}, id="introspection below"),
    ],
)
def test_what_the_specification_names(document: str, variables: dict[str, Json]) -> None:
    assert read(NASTY, document) is not None
    check_that_both_agree(NASTY, document, variables, Trace)


@pytest.mark.parametrize(
    ("email", "outcome"),
    [("noor@example.com", "Contact"), ("maya@example.com", "ConflictError"), ("x", "InvalidInput")],
)
def test_the_creation_of_a_contact(email: str, outcome: str) -> None:
    variables = {"input": {"advertiserId": "2001", "email": email}, "idempotencyKey": "k"}
    for caller in (partial(context, "admin"), partial(context, "admin", "k")):
        result = check_that_both_agree(OWN, CREATE_CONTACT, variables, caller)
        assert result is not None
        assert result.data is not None
        assert result.data["createContact"]["__typename"].startswith(outcome)


@pytest.mark.parametrize(
    ("document", "planned"),
    [
        (CREATE_CONTACT, True),
        ("query ($id: ID!) { contact(id: $id) { id advertiser { name } } }", True),
        ("query ($on: Boolean!) { viewer @include(if: $on) { role } }", True),
        ("{ __schema { queryType { name } } }", False),
        ('fragment A on __Type { name } { __type(name: "Query") { ...A } }', False),
        ("query @only { viewer { role } }", False),
        ("{ a: __typename @include(if: true) @only }", False),
        ("query A { __typename } query B { __typename }", False),
        (
            """query ($a: Boolean!, $b: Boolean!, $c: Boolean!, $d: Boolean!, $e: Boolean!) {
              viewer {
                a: role @skip(if: $a) b: role @skip(if: $b) c: role @skip(if: $c)
                d: role @skip(if: $d) e: role @skip(if: $e)
              }
            }""",
            False,
        ),
    ],
)
def test_what_has_a_plan(document: str, *, planned: bool) -> None:
    assert is_planned(by_plan(OWN, parse(document))) is planned


def test_the_conditions_of_another_operation_take_no_plan_away() -> None:
    document = parse(
        """query A($a: Boolean!) { shouted @include(if: $a) }
        query B($b: Boolean!) { ...B }
        fragment B on Query { shouted @include(if: $b) }"""
    )

    def by_reference(_variables: dict[str, Json], _context: object) -> Result:
        pytest.fail("the plan was not used")

    compiler = Compiler(NASTY, hide_suggestions=False)
    for name, condition in (("A", "a"), ("B", "b")):
        plan = compiler.compile(document, name, by_reference, lambda _: None)
        for value in (True, False):
            result = plan({condition: value}, Trace())
            assert isinstance(result, ExecutionResult)
            assert result.errors is None
            assert list(result.data or ()) == (["shouted"] if value else [])


def test_no_name_is_suggested_where_the_schema_is_hidden() -> None:
    document = read(NASTY, "query ($o: Outer!) { laterEcho(outer: $o) }")
    assert document is not None
    variables: dict[str, Json] = {"o": {"id": 1, "iner": None}}
    shown, hidden = (
        by_plan(NASTY, document, hide_suggestions=hide)(variables, Trace())
        for hide in (False, True)
    )

    assert "Did you mean" in str(shown)
    assert "Did you mean" not in str(hidden)
