"""Documents seen before: bounded in size, and never another caller's variables or operation."""

import gc
from typing import Final

import pytest
from graphql import ExecutionResult, OperationType, parse

from contact_gateway.faces.graphql.document_cache import (
    MAX_PLAN_PARTS,
    PART_SIZE,
    DocumentCache,
    DocumentKey,
    ValidDocument,
)
from contact_gateway.faces.graphql.execution import ExecutableSchema, GraphQLRequest
from contact_gateway.faces.graphql.schema import build_schema
from graphql_plans.fields import Field
from support.faces import Json
from support.fake_source import context
from support.gateway import Gateway

DOCUMENT: Final = ValidDocument(parse("{ __typename }"))
BY_ID: Final = "query ($id: ID!) { advertiser(id: $id) { id } }"
BY_SLUG: Final = """query ($slug: String!, $named: Boolean! = true) {
  advertiser(slug: $slug) { id name @include(if: $named) hienergy { id name domain } }
}"""
LEAVES: Final = "id name displayName slug domain networkName publisherName status"
# Each operation has a plan of its own for all that the fragments select.
MANY_PLANS: Final = (
    " ".join(f"query Q{each} {{ ...Q }}" for each in range(50))
    + 'fragment Q on Query { advertiser(slug: "northwind") { ...A0 } }'
    + " ".join(
        f"fragment A{depth} on Advertiser {{ {LEAVES} hienergy {{ ...A{depth + 1} }} }}"
        for depth in range(7)
    )
    + f"fragment A7 on Advertiser {{ {LEAVES} }}"
)
TWO_OPERATIONS: Final = "query One { __typename } query Two { two: __typename }"


def _key(text: str) -> DocumentKey:
    return DocumentKey(text, names_operation=False)


def test_what_is_kept_is_found_under_its_own_key_alone() -> None:
    documents = DocumentCache()
    documents.keep(_key("a"), DOCUMENT)

    assert documents.get(_key("a")) is DOCUMENT
    assert documents.get(_key("b")) is None
    assert documents.get(DocumentKey("a", names_operation=True)) is None


def test_beyond_its_size_the_least_recently_used_goes_first() -> None:
    documents = DocumentCache(max_size=10)
    documents.keep(_key("aaaa"), DOCUMENT)
    documents.keep(_key("bbbb"), DOCUMENT)
    assert documents.get(_key("aaaa")) is DOCUMENT
    documents.keep(_key("cccc"), DOCUMENT)

    assert documents.get(_key("bbbb")) is None
    assert documents.get(_key("aaaa")) is DOCUMENT
    assert documents.get(_key("cccc")) is DOCUMENT


@pytest.mark.parametrize("text", ["x" * 11, "\N{SNOWMAN}" * 4], ids=["ASCII", "other characters"])
def test_what_is_larger_than_the_cache_displaces_nothing(text: str) -> None:
    documents = DocumentCache(max_size=10)
    documents.keep(_key("aaaa"), DOCUMENT)
    documents.keep(_key(text), DOCUMENT)

    assert documents.get(_key(text)) is None
    assert documents.get(_key("aaaa")) is DOCUMENT


def test_what_is_kept_twice_counts_once() -> None:
    documents = DocumentCache(max_size=8)
    documents.keep(_key("aaaa"), DOCUMENT)
    for _ in range(3):
        documents.keep(_key("bbbb"), DOCUMENT)

    assert documents.get(_key("aaaa")) is DOCUMENT


def test_a_lone_surrogate_has_a_size() -> None:
    documents = DocumentCache()
    documents.keep(_key('{ a(b: "\ud800") }'), DOCUMENT)

    assert documents.get(_key('{ a(b: "\ud800") }')) is DOCUMENT


def test_what_is_added_to_plans_displaces_the_least_recently_used() -> None:
    documents = DocumentCache(max_size=8 + 2 * PART_SIZE)
    kept = [ValidDocument(DOCUMENT.document) for _ in range(2)]
    documents.keep(_key("aaaa"), kept[0])
    documents.keep(_key("bbbb"), kept[1])
    documents.grow(_key("bbbb"), kept[1], 2)
    assert documents.get(_key("aaaa")) is kept[0]
    documents.grow(_key("aaaa"), kept[0], 1)

    assert documents.get(_key("aaaa")) is kept[0]
    assert documents.get(_key("bbbb")) is None
    assert documents.size == 4 + PART_SIZE


def test_plans_that_are_too_large_are_let_go_alone() -> None:
    documents = DocumentCache(max_plan_parts=10)
    document = ValidDocument(DOCUMENT.document)
    documents.keep(_key("aaaa"), document)
    documents.grow(_key("aaaa"), document, 10)
    assert documents.size == 4 + 10 * PART_SIZE
    for _ in range(2):
        documents.grow(_key("aaaa"), document, 1)

    assert document.is_too_large_to_plan
    assert documents.get(_key("aaaa")) is document
    assert documents.size == 4


def test_plans_of_what_is_not_kept_count_nothing() -> None:
    documents = DocumentCache()
    documents.keep(_key("aaaa"), DOCUMENT)
    documents.grow(_key("aaaa"), ValidDocument(DOCUMENT.document), 1)
    documents.grow(_key("bbbb"), DOCUMENT, 1)

    assert documents.size == 4


@pytest.mark.anyio
class TestExecution:
    """What the cache changes in the answers: nothing."""

    async def test_each_caller_has_their_own_variables(self, gateway: Gateway) -> None:
        for advertiser_id in ("1001", "2001", "nope"):
            answer = await gateway.graphql(BY_ID, gateway.member, {"id": advertiser_id})
            found = answer.json()["data"]["advertiser"]
            assert (found or {}).get("id", "nope") == advertiser_id

    async def test_each_caller_has_their_own_key(self, gateway: Gateway) -> None:
        for key, role in ((gateway.admin, "ADMIN"), (gateway.member, "MEMBER"), (None, None)):
            viewer = (await gateway.graphql("{ viewer { role } }", key)).json()["data"]["viewer"]
            assert (viewer or {}).get("role") == role

    async def test_a_document_of_many_operations_needs_a_name_each_time(self) -> None:
        schema = build_schema()
        for name in ("One", "Two"):
            assert (await _execute(schema, TWO_OPERATIONS, name)).errors is None
        unnamed = await _execute(schema, TWO_OPERATIONS, None)

        assert unnamed.data is None
        assert unnamed.errors is not None

    async def test_a_mutation_by_get_is_refused_also_where_the_document_is_known(
        self, gateway: Gateway
    ) -> None:
        mutation = "mutation M { __typename }"
        for _ in range(2):
            by_post = await gateway.graphql(mutation, gateway.admin)
            by_get = await gateway.client.get("/graphql", params={"query": mutation})
            assert (by_post.status_code, by_get.status_code) == (200, 405)

    @pytest.mark.parametrize("text", ["{ nothing }", "{", "{ contact { id } }"])
    async def test_what_fails_is_not_kept(self, text: str) -> None:
        documents = _Watched()
        schema = build_schema(documents=documents)
        first, second = [await _execute(schema, text, None) for _ in range(2)]

        assert first.errors == second.errors
        assert first.errors
        assert documents.kept == []

    async def test_what_is_valid_is_read_once(self) -> None:
        documents = _Watched()
        schema = build_schema(documents=documents)
        for _ in range(3):
            await _execute(schema, "{ __typename }", None)

        assert [key.text for key in documents.kept] == ["{ __typename }"]

    async def test_a_plan_counts_what_it_gets_when_records_are_met(self) -> None:
        documents = DocumentCache()
        schema = build_schema(documents=documents)
        sizes = []
        for variables in (
            {"slug": "nobody"},
            {"slug": "northwind"},
            {"slug": "northwind"},
            {"slug": "northwind", "named": False},
        ):
            await _execute(schema, BY_SLUG, None, variables)
            sizes.append(documents.size)

        assert sizes[0] < sizes[1] == sizes[2] < sizes[3]

    @pytest.mark.parametrize("max_plan_parts", range(0, 30, 2))
    async def test_a_plan_that_becomes_too_large_changes_no_answer(
        self, max_plan_parts: int
    ) -> None:
        documents = DocumentCache(max_plan_parts=max_plan_parts)
        schema = build_schema(documents=documents)
        for _ in range(3):
            assert (await _execute(schema, BY_SLUG, None, {"slug": "nobody"})).data == {
                "advertiser": None
            }
            found = await _execute(schema, BY_SLUG, None, {"slug": "northwind"})
            assert found.errors is None
            assert found.data == {
                "advertiser": {
                    "id": "1001",
                    "name": "Northwind",
                    "hienergy": {
                        "id": "1001",
                        "name": "Northwind",
                        "domain": "northwind.example",
                    },
                }
            }
            assert documents.size <= len(BY_SLUG) + max_plan_parts * PART_SIZE

    async def test_a_document_keeps_few_fields_however_many_operations_it_has(self) -> None:
        schema = build_schema()
        before = _fields_in_memory()
        for operation in range(50):
            assert (await _execute(schema, MANY_PLANS, f"Q{operation}")).errors is None

        assert _fields_in_memory() - before <= MAX_PLAN_PARTS


class _Watched(DocumentCache):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[DocumentKey] = []

    def keep(self, key: DocumentKey, document: ValidDocument) -> None:
        super().keep(key, document)
        self.kept.append(key)


async def _execute(
    schema: ExecutableSchema,
    text: str,
    operation: str | None,
    variables: dict[str, Json] | None = None,
) -> ExecutionResult:
    request = GraphQLRequest(text, variables, operation)
    return await schema.execute(request, context("member"), {OperationType.QUERY})


def _fields_in_memory() -> int:
    gc.collect()
    return sum(isinstance(each, Field) for each in gc.get_objects())
