"""The document cache is bounded, and holds neither variables nor callers."""

import gc
from typing import Final

import pytest
from graphql import ExecutionResult, parse

from contact_gateway.faces.graphql.document_cache import (
    MAX_PLAN_PARTS,
    PART_SIZE,
    DocumentCache,
    ValidDocument,
)
from contact_gateway.faces.graphql.execution import ExecutableSchema, GraphQLRequest
from contact_gateway.faces.graphql.schema import build_schema
from graphql_plans.fields import PlannedField
from support.databases import Engine
from support.faces import Json
from support.fake_source import LIMITS, context
from support.gateway import Gateway

DOCUMENT: Final = ValidDocument(parse("{ __typename }"))
BY_ID: Final = "query ($id: ID!) { advertiser(id: $id) { id } }"
BY_SLUG: Final = """query ($slug: String!, $named: Boolean! = true) {
  advertiser(slug: $slug) { id name @include(if: $named) hienergy { id name domain } }
}"""
LEAVES: Final = "id name displayName slug domain networkName publisherName status"
# Each operation has its own plan of everything in the fragments.
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


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: documents do not depend on the store."""
    return Engine.SQLITE


def test_a_document_is_found_by_its_text_only() -> None:
    documents = DocumentCache()
    documents.put("a", DOCUMENT)

    assert documents.get("a") is DOCUMENT
    assert documents.get("b") is None


def test_a_full_cache_evicts_the_least_recently_used_document() -> None:
    documents = DocumentCache(max_size=10)
    documents.put("aaaa", DOCUMENT)
    documents.put("bbbb", DOCUMENT)
    assert documents.get("aaaa") is DOCUMENT
    documents.put("cccc", DOCUMENT)

    assert documents.get("bbbb") is None
    assert documents.get("aaaa") is DOCUMENT
    assert documents.get("cccc") is DOCUMENT


@pytest.mark.parametrize("text", ["x" * 11, "\N{SNOWMAN}" * 4], ids=["ASCII", "other characters"])
def test_a_document_larger_than_the_cache_evicts_nothing(text: str) -> None:
    documents = DocumentCache(max_size=10)
    documents.put("aaaa", DOCUMENT)
    documents.put(text, DOCUMENT)

    assert documents.get(text) is None
    assert documents.get("aaaa") is DOCUMENT


def test_a_document_that_is_put_twice_counts_once() -> None:
    documents = DocumentCache(max_size=8)
    documents.put("aaaa", DOCUMENT)
    for _ in range(3):
        documents.put("bbbb", DOCUMENT)

    assert documents.get("aaaa") is DOCUMENT


def test_a_document_with_a_lone_surrogate_is_cached() -> None:
    documents = DocumentCache()
    documents.put('{ a(b: "\ud800") }', DOCUMENT)

    assert documents.get('{ a(b: "\ud800") }') is DOCUMENT


def test_growing_plans_evict_the_least_recently_used_document() -> None:
    documents = DocumentCache(max_size=8 + 2 * PART_SIZE)
    cached = [ValidDocument(DOCUMENT.document) for _ in range(2)]
    documents.put("aaaa", cached[0])
    documents.put("bbbb", cached[1])
    documents.add_plan_parts("bbbb", cached[1], 2)
    assert documents.get("aaaa") is cached[0]
    documents.add_plan_parts("aaaa", cached[0], 1)

    assert documents.get("aaaa") is cached[0]
    assert documents.get("bbbb") is None
    assert documents.size == 4 + PART_SIZE


def test_plans_that_are_too_large_are_dropped_without_their_document() -> None:
    documents = DocumentCache(max_plan_parts=10)
    document = ValidDocument(DOCUMENT.document)
    documents.put("aaaa", document)
    documents.add_plan_parts("aaaa", document, 10)
    assert documents.size == 4 + 10 * PART_SIZE
    for _ in range(2):
        documents.add_plan_parts("aaaa", document, 1)

    assert document.is_too_large_to_plan
    assert documents.get("aaaa") is document
    assert documents.size == 4


def test_plans_of_uncached_documents_do_not_count() -> None:
    documents = DocumentCache()
    documents.put("aaaa", DOCUMENT)
    documents.add_plan_parts("aaaa", ValidDocument(DOCUMENT.document), 1)
    documents.add_plan_parts("bbbb", DOCUMENT, 1)

    assert documents.size == 4


@pytest.mark.anyio
class TestExecution:
    """The cache changes no response."""

    async def test_each_request_has_its_own_variables(self, gateway: Gateway) -> None:
        for advertiser_id in ("1001", "2001", "nope"):
            answer = await gateway.graphql(BY_ID, gateway.member, {"id": advertiser_id})
            found = answer.json()["data"]["advertiser"]
            assert (found or {}).get("id", "nope") == advertiser_id

    async def test_each_request_has_its_own_caller(self, gateway: Gateway) -> None:
        for key, role in ((gateway.admin, "ADMIN"), (gateway.member, "MEMBER"), (None, None)):
            viewer = (await gateway.graphql("{ viewer { role } }", key)).json()["data"]["viewer"]
            assert (viewer or {}).get("role") == role

    async def test_a_document_with_several_operations_needs_an_operation_name_each_time(
        self,
    ) -> None:
        schema = build_schema(LIMITS)
        for name in ("One", "Two"):
            assert (await _execute(schema, TWO_OPERATIONS, name)).errors is None
        unnamed = await _execute(schema, TWO_OPERATIONS, None)

        assert unnamed.data is None
        assert unnamed.errors is not None

    async def test_a_mutation_by_get_is_refused_even_if_its_document_is_cached(
        self, gateway: Gateway
    ) -> None:
        mutation = "mutation M { __typename }"
        for _ in range(2):
            by_post = await gateway.graphql(mutation, gateway.admin)
            by_get = await gateway.client.get("/graphql", params={"query": mutation})
            assert (by_post.status_code, by_get.status_code) == (200, 405)

    @pytest.mark.parametrize("text", ["{ nothing }", "{", "{ contact { id } }"])
    async def test_an_invalid_document_is_not_cached(self, text: str) -> None:
        documents = _RecordingCache()
        schema = build_schema(LIMITS, documents=documents)
        first, second = [await _execute(schema, text, None) for _ in range(2)]

        assert first.errors == second.errors
        assert first.errors
        assert documents.added == []

    async def test_a_valid_document_is_cached_once(self) -> None:
        documents = _RecordingCache()
        schema = build_schema(LIMITS, documents=documents)
        for _ in range(3):
            await _execute(schema, "{ __typename }", None)

        assert documents.added == ["{ __typename }"]

    async def test_a_plan_grows_when_it_meets_new_types_and_conditions(self) -> None:
        documents = DocumentCache()
        schema = build_schema(LIMITS, documents=documents)
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
    async def test_a_plan_that_becomes_too_large_changes_no_result(
        self, max_plan_parts: int
    ) -> None:
        documents = DocumentCache(max_plan_parts=max_plan_parts)
        schema = build_schema(LIMITS, documents=documents)
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

    async def test_a_document_has_few_planned_fields_however_many_operations_it_has(self) -> None:
        schema = build_schema(LIMITS)
        before = _fields_in_memory()
        for operation in range(50):
            assert (await _execute(schema, MANY_PLANS, f"Q{operation}")).errors is None

        assert _fields_in_memory() - before <= MAX_PLAN_PARTS


class _RecordingCache(DocumentCache):
    def __init__(self) -> None:
        super().__init__()
        self.added: list[str] = []

    def put(self, text: str, document: ValidDocument) -> None:
        super().put(text, document)
        self.added.append(text)


async def _execute(
    schema: ExecutableSchema,
    text: str,
    operation: str | None,
    variables: dict[str, Json] | None = None,
) -> ExecutionResult:
    request = GraphQLRequest(text, variables, operation)
    return await schema.execute(request, context("member"), queries_only=True)


def _fields_in_memory() -> int:
    gc.collect()
    return sum(isinstance(each, PlannedField) for each in gc.get_objects())
