"""Limits of documents: the maximum is accepted, one more is refused, and settings change them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from graphql import get_introspection_query

from support.databases import Engine
from support.faces import CREATE_CONTACT
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


# Its levels have 1, 2, 2 and 4 records: an advertiser, its equivalents, and so on.
EQUIVALENTS: Final = "{ advertiser(id: 1001) { equivalents { hienergy { equivalents { id } } } } }"


@pytest.mark.parametrize("maximum", [1, 3, 5, 8, 9])
async def test_the_records_of_a_result_are_limited(tmp_path: Path, maximum: int) -> None:
    """Each level of equivalents multiplies them, so a short document could have millions."""
    async with running_gateway(tmp_path, graphql_max_records=maximum) as gateway:
        response = await gateway.graphql(EQUIVALENTS, gateway.member)

    assert ("errors" in response.json()) is (maximum < 9)
    for error in response.json().get("errors", []):
        assert error["message"] == (
            f"The result is too large. At most {maximum} records are allowed."
        )
        assert error["extensions"] == {
            "code": "BAD_REQUEST",
            "limit": "records",
            "maximum": maximum,
            "requestId": response.headers["X-Request-Id"],
        }


@pytest.mark.parametrize(
    "document",
    [
        "{ contacts { nodes { id } } }",
        "{ advertisers { nodes { id } } }",
        "{ a: contact(id: 1) { id } b: contact(id: 2) { id } }",
        '{ a: advertiser(slug: "northwind") { id } b: advertiser(slug: "none") { id } }',
    ],
)
async def test_every_read_counts_its_records(tmp_path: Path, document: str) -> None:
    async with running_gateway(tmp_path, graphql_max_records=1) as gateway:
        for email in ("maya@example.com", "noor@example.com"):
            variables = {"input": {"advertiserId": 1001, "email": email}}
            created = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables)
            assert created.json()["data"]["createContact"]["__typename"] == "Contact"
        response = await gateway.graphql(document, gateway.member)

    assert response.json()["errors"][0]["extensions"]["limit"] == "records"


async def test_fields_beyond_the_limit_of_records_have_one_error(tmp_path: Path) -> None:
    """There may be thousands of them. Other errors are listed too."""
    document = "{ contacts(page: 0) { nodes { id } } advertisers { nodes { id hienergy { id } } } }"
    async with running_gateway(tmp_path, graphql_max_records=7) as gateway:
        response = await gateway.graphql(document, gateway.member)

    codes = sorted(error["extensions"]["code"] for error in response.json()["errors"])
    assert codes == ["BAD_REQUEST", "INVALID_INPUT"]


async def test_a_created_contact_is_shown_beyond_the_limit_of_records(tmp_path: Path) -> None:
    document = """mutation { createContact(input: {advertiserId: 2001, email: "maya@example.com"}) {
      ... on Contact { email advertiser { equivalents { id } } }
    } }"""
    async with running_gateway(tmp_path, graphql_max_records=1) as gateway:
        response = await gateway.graphql(document, gateway.admin)

    assert response.json()["data"] == {
        "createContact": {"email": "maya@example.com", "advertiser": None}
    }
    assert response.json()["errors"][0]["extensions"]["limit"] == "records"


@pytest.mark.parametrize(
    "document",
    [
        "{ a: __schema { types { name } } }",
        "{ __schema { a: types { name } } }",
        '{ __type(name: "Contact") { ...F } } fragment F on __Type { a: fields { name } }',
        "{ __schema { types { fields { a: type { name } b: type { name } } } } }",
    ],
)
async def test_introspection_has_no_aliases(gateway: Gateway, document: str) -> None:
    """Aliases in its lists multiply each other, for callers without a key."""
    response = await gateway.graphql(document)

    assert response.status_code == 400
    error = response.json()["errors"][0]
    assert error["message"] == "Fields of `__schema` and `__type` cannot have aliases."


async def test_types_can_be_queried_side_by_side(gateway: Gateway) -> None:
    document = '{ a: __type(name: "Contact") { name } b: __type(name: "Viewer") { name } }'
    response = await gateway.graphql(document)

    assert response.json()["data"] == {"a": {"name": "Contact"}, "b": {"name": "Viewer"}}


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
