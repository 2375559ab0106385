"""Documents seen before: bounded in size, and never another caller's variables or operation."""

from typing import Final

import pytest
from graphql import ExecutionResult, OperationType, parse

from contact_gateway.faces.graphql.document_cache import DocumentCache, DocumentKey, ValidDocument
from contact_gateway.faces.graphql.execution import ExecutableSchema, GraphQLRequest
from contact_gateway.faces.graphql.schema import build_schema
from running_gateway import Gateway

DOCUMENT: Final = ValidDocument(parse("{ __typename }"))
BY_ID: Final = "query ($id: ID!) { advertiser(id: $id) { id } }"
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
    documents = DocumentCache(max_text_bytes=10)
    documents.keep(_key("aaaa"), DOCUMENT)
    documents.keep(_key("bbbb"), DOCUMENT)
    assert documents.get(_key("aaaa")) is DOCUMENT
    documents.keep(_key("cccc"), DOCUMENT)

    assert documents.get(_key("bbbb")) is None
    assert documents.get(_key("aaaa")) is DOCUMENT
    assert documents.get(_key("cccc")) is DOCUMENT


@pytest.mark.parametrize("text", ["x" * 11, "\N{SNOWMAN}" * 4], ids=["ASCII", "other characters"])
def test_what_is_larger_than_the_cache_displaces_nothing(text: str) -> None:
    documents = DocumentCache(max_text_bytes=10)
    documents.keep(_key("aaaa"), DOCUMENT)
    documents.keep(_key(text), DOCUMENT)

    assert documents.get(_key(text)) is None
    assert documents.get(_key("aaaa")) is DOCUMENT


def test_what_is_kept_twice_counts_once() -> None:
    documents = DocumentCache(max_text_bytes=8)
    documents.keep(_key("aaaa"), DOCUMENT)
    for _ in range(3):
        documents.keep(_key("bbbb"), DOCUMENT)

    assert documents.get(_key("aaaa")) is DOCUMENT


def test_a_lone_surrogate_has_a_size() -> None:
    documents = DocumentCache()
    documents.keep(_key('{ a(b: "\ud800") }'), DOCUMENT)

    assert documents.get(_key('{ a(b: "\ud800") }')) is DOCUMENT


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


class _Watched(DocumentCache):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[DocumentKey] = []

    def keep(self, key: DocumentKey, document: ValidDocument) -> None:
        super().keep(key, document)
        self.kept.append(key)


async def _execute(schema: ExecutableSchema, text: str, operation: str | None) -> ExecutionResult:
    request = GraphQLRequest(text, operation_name=operation)
    return await schema.execute(request, None, {OperationType.QUERY})
