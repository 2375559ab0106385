"""Plans return what graphql-core's executor returns, for all documents and variables."""

import gc
import os
from collections.abc import Iterator
from typing import Final

import pytest
from graphql import (
    ExecutionResult,
    GraphQLScalarType,
    GraphQLSchema,
    Undefined,
    build_schema,
    parse,
)
from hypothesis import HealthCheck, given, settings

from graphql_plans import Compiler, Result
from graphql_plans.tests.compared_executors import (
    Json,
    assert_same_outcome,
    is_planned,
    parse_valid,
    plan_of,
    reference_of,
)
from graphql_plans.tests.generated_documents import Case, requests
from graphql_plans.tests.nasty_schema import SCHEMA, Trace

# Strawberry has no public name for graphql-core's schema.
NASTY: Final[GraphQLSchema] = SCHEMA._schema  # noqa: SLF001
# After an error, both executors drop the fields that their selection set had not started.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collect_dropped_coroutines() -> Iterator[None]:
    """Free them here, where their warnings are ignored, and not during another module's tests."""
    yield
    gc.collect()


@settings(
    max_examples=int(os.environ.get("COMPARED_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(requests(NASTY))
def test_any_request(case: Case) -> None:
    assert_same_outcome(NASTY, case.document, case.variables, Trace)


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
            "{ a: again { ...A } b: again { ...A } } fragment A on Query { again { shouted } }",
            {},
            id="a fragment in two fields",
        ),
        pytest.param(
            "query ($on: Boolean!) { shouted @include(if: $on) a: shouted @skip(if: $on) }",
            {"on": True},
            id="conditions",
        ),
        pytest.param(
            "query ($on: Boolean! = true) { a: again { shouted @skip(if: $on) } }",
            {},
            id="a condition with a default",
        ),
        pytest.param(
            "query ($on: Boolean = true) { shouted @skip(if: $on) }",
            {"on": None},
            id="a null condition",
        ),
        pytest.param("{ things { __typename ... on Node { id kind } } }", {}, id="a union"),
        pytest.param("{ node { id nextNode { id } } }", {}, id="an interface"),
        pytest.param(
            "{ thing(number: 3) { ... on Odd { odd } } }", {}, id="is_type_of returns false"
        ),
        pytest.param("{ thing(number: 4) { __typename } }", {}, id="no type of a union"),
        pytest.param("{ lists { numbers nullable nested deep } }", {}, id="lists with nulls"),
        pytest.param(
            "{ lists { nullable awaited awaitedRequired } }", {}, id="awaitables in lists"
        ),
        pytest.param("{ lists { stream generated } }", {}, id="iterables"),
        pytest.param("{ lists { noList aText } }", {}, id="values that are no lists"),
        pytest.param("{ lists { awaitedBeforeAnError } }", {}, id="an error after an awaitable"),
        pytest.param("{ values { later } }", {}, id="an awaitable of a scalar"),
        pytest.param("{ helpers }", {}, id="the helpers of an info"),
        pytest.param('{ lazy(inner: {note: "n"}) }', {}, id="a lazy input type"),
        pytest.param(
            "{ failures { slowly failingRequiredLater failingRequired } shouted }",
            {},
            id="a null propagates past pending siblings",
        ),
        pytest.param(
            'mutation { a: note(text: "1") b: noteNow(text: "2") c: note(text: "3") }',
            {},
            id="serial mutations",
        ),
        pytest.param(
            'mutation { a: note(text: "1", failure: "1") b: noteRequired(text: "") { __typename } '
            'c: noteNow(text: "never") }',
            {},
            id="an error ends serial mutations",
        ),
        pytest.param(
            "query ($o: Outer!) { laterEcho(outer: $o) }", {"o": {}}, id="a missing input field"
        ),
        pytest.param(
            "query ($o: Outer!) { laterEcho(outer: $o) }",
            {"o": {"id": 1, "inner": {"even": 3}, "nothing": 1}},
            id="several errors",
        ),
        pytest.param(
            "query ($n: [Int!]! = [1]) { echo(numbers: $n) }", {}, id="a variable's default"
        ),
        pytest.param(
            "query ($n: Int! = 3, $c: Color = GREEN) { echo(numbers: [$n], color: $c) }",
            {},
            id="defaults of leaf types",
        ),
        pytest.param(
            "query ($t: Tree!) { tree(tree: $t) }", {"t": {}}, id="a recursive input type"
        ),
        pytest.param(
            "query ($e: Even) { echo(numbers: [], even: $e) }",
            {"e": 3},
            id="a scalar rejects its value",
        ),
        pytest.param(
            "query ($r: Float, $id: ID!) { laterEcho(outer: {id: $id, ratio: $r}) }",
            {"id": "x"},
            id="an absent variable in a literal",
        ),
        pytest.param("{ denied shouted }", {}, id="permissions and extensions"),
        pytest.param("{ shapes { __typename } }", {}, id="types resolved by value"),
        pytest.param("{ edge { __typename ... on LeafEdge { node { id } } } }", {}, id="generics"),
        pytest.param("query ($t: String) { shouted(text: $t) }", {}, id="an argument's default"),
        pytest.param(
            'query ($i: Inner = {}) { laterEcho(outer: {id: "1", inner: $i}) }',
            {"i": {}},
            id="an input field without a default",
        ),
        *(
            pytest.param(f"{{ holder {{ {selected} }} }}", {}, id=selected)
            for selected in (
                "item { text number ratio color tags a: __typename }",
                "item { text } noItem { text } items { text number } tupleOfItems { text }",
                "nestedItems { text } listOfItsClass { text }",
                "item { length } items { text length }",
                "awaitableItem { text }",
                "errorItem { text }",
                "proxiedItem { text }",
                "item { text } itemsWithAnError { text }",
                "item { text } requiredItem { text }",
                "aLeaf { id weight bad }",
                "aLeaf { id weight } notALeaf { id }",
                "item { text } odd { odd }",
                "item { text } thing { __typename }",
                "holders { items { text } holders { item { text } } }",
                "holders { item { text } requiredItem { text } }",
            )
        ),
        pytest.param("{ values { text id yes half color evenEnough nothing } }", {}, id="leaves"),
        pytest.param("{ values { parentNames number bigger: big } }", {}, id="a parent"),
        pytest.param("{ __schema { queryType { name } } }", {}, id="introspection"),
        pytest.param('{ again { __type(name: "Leaf") { name } } }', {}, id="introspection below"),
    ],
)
def test_a_case_of_the_specification(document: str, variables: dict[str, Json]) -> None:
    assert parse_valid(NASTY, document) is not None
    assert_same_outcome(NASTY, document, variables, Trace)


@pytest.mark.parametrize(
    ("document", "planned"),
    [
        ("query ($n: Int!) { node(number: $n) { id ... on Branch { name } } }", True),
        ('mutation { noteNow(text: "1") }', True),
        ("query ($on: Boolean!) { shouted @include(if: $on) }", True),
        (
            """query ($a: Boolean!, $b: Boolean!, $c: Boolean!, $d: Boolean!) {
              shouted @skip(if: $a) again @skip(if: $b) { shouted @skip(if: $c) }
              failing @include(if: $d)
            }""",
            True,
        ),
        (
            """query ($a: Boolean!, $b: Boolean!, $c: Boolean!, $d: Boolean!, $e: Boolean!) {
              shouted @skip(if: $a) again @skip(if: $b) { shouted @skip(if: $c) }
              failing @include(if: $d) @skip(if: $e)
            }""",
            False,
        ),
        ("{ __schema { queryType { name } } }", False),
        ('fragment A on __Type { name } { __type(name: "Query") { ...A } }', False),
        ("query @only { shouted }", False),
        ("fragment A on Query @only { shouted } { ...A }", False),
        ("{ a: __typename @include(if: true) @only }", False),
        ("{ shouted @skip(if: null) }", False),
        ("query A { __typename } query B { __typename }", False),
        ("subscription { shouted }", False),
    ],
)
def test_what_plans_cover(document: str, *, planned: bool) -> None:
    assert is_planned(plan_of(NASTY, parse(document))) is planned


def test_a_schema_without_strawberry() -> None:
    schema = build_schema("type Query { a(b: Int = 3): Int again: Query }")
    assert schema.query_type is not None
    schema.query_type.fields["a"].resolve = lambda _, info, b: b + len(info.field_nodes)
    schema.query_type.fields["again"].resolve = lambda *_: {}

    result = assert_same_outcome(schema, "{ a c: a(b: 4) again { a } }", {}, Trace)
    assert result == ExecutionResult({"a": 4, "c": 5, "again": {"a": 4}}, None)
    assert not is_planned(plan_of(schema, parse("mutation { a }")))


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        pytest.param("query ($i: In) { a(i: $i) }", {"i": None}, id="a null input object"),
        pytest.param("query ($i: In) { a(i: $i) }", {"i": {"n": None}}, id="a null list"),
        pytest.param("query ($i: In) { a(i: $i) }", {"i": {"n": [None]}}, id="an invalid null"),
        pytest.param("query ($i: In) { a(i: $i) }", {"i": 1}, id="no input object"),
        pytest.param("query ($v: Void) { b(v: $v) }", {"v": 1}, id="a scalar without values"),
    ],
)
def test_input_to_a_schema_without_strawberry(document: str, variables: dict[str, Json]) -> None:
    schema = build_schema(
        """
        scalar Void
        input In { n: [Int!] }
        type Query { a(i: In): Int b(v: Void): Int }
        """
    )
    void = schema.type_map["Void"]
    assert isinstance(void, GraphQLScalarType)
    void.coerce_input_value = lambda _: Undefined

    assert_same_outcome(schema, document, variables, Trace)


@pytest.mark.parametrize(
    "text",
    [
        "{ failures { slowly failingRequired } shouted }",
        "{ lists { awaitedBeforeAnError } }",
        "{ nowhere shouted }",
        "{ choice }",
        '{ node(number: "x") { id } }',
        "{ tree(tree: {label: 1}) }",
        "query ($t: Tree) { tree(tree: $t) }",
        "query ($n: Nowhere) { shouted }",
    ],
)
def test_without_an_event_loop_and_without_validation(text: str) -> None:
    document = parse(text)
    plan, reference = plan_of(NASTY, document), reference_of(NASTY, document)
    assert is_planned(plan)
    assert plan({}, Trace()) == reference({}, Trace())


def test_conditions_of_other_operations_do_not_count() -> None:
    document = parse(
        """query A($a: Boolean!) { shouted @include(if: $a) }
        query B($b: Boolean!) { ...B }
        fragment B on Query { shouted @include(if: $b) }"""
    )

    def fallback(_variables: dict[str, Json], _context: object) -> Result:
        pytest.fail("the plan was not used")

    compiler = Compiler(NASTY, hide_suggestions=False)
    for name, condition in (("A", "a"), ("B", "b")):
        plan = compiler.compile(document, name, fallback, lambda _: None)
        for value in (True, False):
            result = plan({condition: value}, Trace())
            assert isinstance(result, ExecutionResult)
            assert result.errors is None
            assert list(result.data or ()) == (["shouted"] if value else [])


def test_a_hidden_schema_suggests_no_names() -> None:
    document = parse_valid(NASTY, "query ($o: Outer!) { laterEcho(outer: $o) }")
    assert document is not None
    variables: dict[str, Json] = {"o": {"id": 1, "iner": None}}
    shown, hidden = (
        plan_of(NASTY, document, hide_suggestions=hide)(variables, Trace())
        for hide in (False, True)
    )

    assert "Did you mean" in str(shown)
    assert "Did you mean" not in str(hidden)
