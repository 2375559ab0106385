"""Limits of documents: the maximum is accepted, one more is refused, and settings change them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from graphql import get_introspection_query

from support.databases import Engine
from support.gateway import Gateway, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: the limits do not depend on the store."""
    return Engine.SQLITE


def _nested(fields: int) -> str:
    """Return a document with this many levels of fields, the last a leaf."""
    inner = "id"
    for _ in range(fields - 2):
        inner = f"hienergy {{ {inner} }}"
    return f"{{ advertiser(id: 1001) {{ {inner} }} }}"


def _nested_by_fragments(fields: int) -> str:
    """Return the same document with a fragment for each level."""
    levels = range(fields - 2)
    fragments = [
        f"fragment F{level} on Advertiser {{ hienergy {{ {f'...F{level + 1}'} }} }}"
        for level in levels
    ]
    leaf = f"fragment F{fields - 2} on Advertiser {{ id }}"
    return " ".join(["{ advertiser(id: 1001) { ...F0 } }", *fragments, leaf])


def _comments(tokens: int) -> str:
    return "#\n" * (tokens - 3) + "{ __typename }"


def _aliases(number: int) -> str:
    return "{ " + " ".join(f"a{each}: __typename" for each in range(number)) + " }"


def _repeated(times: int) -> str:
    return "{ __typename " + "__typename " * times + "}"


def _directives(number: int) -> str:
    """Return a document with this many directives on inline fragments, and no repeated field."""
    return "{ viewer { " + "... on Viewer @include(if: true) { label } " * number + "} }"


def _creation(number: int) -> str:
    given = f'input: {{ advertiserId: 1001, email: "{number}@example.com" }}, dryRun: true'
    return f"c{number}: createContact({given}) {{ __typename }}"


def _creations(number: int) -> str:
    return "mutation { " + " ".join(map(_creation, range(number))) + " }"


def _creations_in_fragments(number: int) -> str:
    each = [f"fragment F{n} on Mutation {{ {_creation(n)} }}" for n in range(number)]
    spreads = " ".join(f"...F{n}" for n in range(number))
    return " ".join([f"mutation {{ {spreads} }}", *each])


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit, with a document of any size, and its setting."""

    name: str
    maximum: int
    document: Callable[[int], str]
    setting: str


LIMITS: Final = (
    Limit("tokens", 1000, _comments, "graphql_max_tokens"),
    Limit("depth", 10, _nested, "graphql_max_depth"),
    Limit("depth", 10, _nested_by_fragments, "graphql_max_depth"),
    Limit("aliases", 15, _aliases, "graphql_max_aliases"),
    Limit("aliases", 15, _repeated, "graphql_max_aliases"),
    Limit("directives", 50, _directives, "graphql_max_directives"),
    Limit("mutations", 10, _creations, "graphql_max_mutations"),
    Limit("mutations", 10, _creations_in_fragments, "graphql_max_mutations"),
)
each_limit = pytest.mark.parametrize(
    "limit", LIMITS, ids=lambda limit: limit.document.__name__.strip("_").replace("_", " ")
)


@each_limit
async def test_a_document_at_the_limit_is_executed(gateway: Gateway, limit: Limit) -> None:
    response = await gateway.graphql(limit.document(limit.maximum), gateway.admin)

    assert response.status_code == 200
    assert "errors" not in response.json()


@each_limit
async def test_a_document_beyond_the_limit_is_refused(gateway: Gateway, limit: Limit) -> None:
    response = await gateway.graphql(limit.document(limit.maximum + 1), gateway.admin)

    assert response.json().keys() == {"errors"}
    (error,) = response.json()["errors"]
    assert error["extensions"] == {
        "code": "BAD_REQUEST",
        "limit": limit.name,
        "maximum": limit.maximum,
        "requestId": response.headers["X-Request-Id"],
    }
    assert re.fullmatch(
        f"The document is too large. At most {limit.maximum} .+ are allowed.", error["message"]
    )


@each_limit
async def test_the_limit_is_a_setting(tmp_path: Path, limit: Limit) -> None:
    async with running_gateway(tmp_path, **{limit.setting: 3}) as gateway:
        at_it = await gateway.graphql(limit.document(3), gateway.admin)
        beyond = await gateway.graphql(limit.document(4), gateway.admin)

    assert "errors" not in at_it.json()
    assert beyond.json()["errors"][0]["extensions"]["maximum"] == 3


@pytest.mark.parametrize(("maximum", "is_accepted"), [(21, True), (20, False)])
async def test_the_tokens_of_a_document_are_limited(
    tmp_path: Path, maximum: int, *, is_accepted: bool
) -> None:
    document = "query Q($id: ID!) { advertiser(id: $id) { id } }"
    async with running_gateway(tmp_path, graphql_max_tokens=maximum) as gateway:
        response = await gateway.graphql(document, gateway.admin, {"id": 1001})

    assert ("errors" not in response.json()) is is_accepted
    if not is_accepted:
        (error,) = response.json()["errors"]
        assert error["extensions"]["limit"] == "tokens"


async def test_the_whole_schema_can_be_queried(gateway: Gateway) -> None:
    """GraphiQL and client generators send this document. It is deeper than the limit."""
    document = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, input_value_deprecation=True
    )
    response = await gateway.graphql(document)

    assert response.json()["data"]["__schema"]["types"]


async def test_the_schema_cannot_be_queried_in_cycles(gateway: Gateway) -> None:
    document = "name"
    for _ in range(5):
        document = f"fields {{ type {{ {document} }} }}"
    response = await gateway.graphql(f"{{ __schema {{ types {{ {document} }} }} }}")

    assert response.json().keys() == {"errors"}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("{ ...F } fragment F on Query { ...F }", id="itself"),
        pytest.param(
            "{ advertiser(id: 1) { ...F } } fragment F on Advertiser { hienergy { ...F } }",
            id="itself, one deeper",
        ),
        pytest.param(
            "mutation { ...F } fragment F on Mutation { ...G } fragment G on Mutation { ...F }",
            id="each other",
        ),
        pytest.param("{ ...Nowhere }", id="nowhere"),
    ],
)
async def test_cyclic_fragments_are_refused(gateway: Gateway, document: str) -> None:
    response = await gateway.graphql(document, gateway.admin)

    assert response.json().keys() == {"errors"}
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_document_with_many_errors_gets_a_few_of_them(gateway: Gateway) -> None:
    fields = " ".join(f"unknown{number}" for number in range(100))
    response = await gateway.graphql(f"{{ {fields} }}")

    assert len(response.json()["errors"]) == 6


@pytest.mark.parametrize("depth", [32, 33])
async def test_the_depth_of_json_is_limited(gateway: Gateway, depth: int) -> None:
    """Brackets in strings do not count."""
    inner = '"[{]}[[["'
    for level in range(depth - 2):
        inner = f"[{inner}]" if level % 2 else f'{{"a": {inner}}}'
    body = f'{{"query": "{{ __typename }}", "variables": {{"a": {inner}}}}}'
    response = await gateway.client.post(
        "/graphql", content=body, headers={"Content-Type": "application/json"}
    )

    assert (response.status_code == 200) is (depth <= 32)
    if depth > 32:
        assert "At most 32 levels" in response.json()["errors"][0]["message"]


async def test_brackets_in_an_unterminated_string_do_not_count(gateway: Gateway) -> None:
    """The scan is linear: it does not restart at each quote in the string."""
    response = await gateway.client.post(
        "/graphql", content='{"query": "' + "[" * 40, headers={"Content-Type": "application/json"}
    )

    assert "not valid JSON" in response.json()["errors"][0]["message"]


async def test_error_messages_have_a_maximum_length(gateway: Gateway) -> None:
    name = "cannot_represent_" * 1_000
    response = await gateway.graphql(f"{{ {name} }}")

    (error,) = response.json()["errors"]
    assert error["message"].startswith("Cannot query field 'cannot_represent_")
    assert len(error["message"]) <= 1_000
