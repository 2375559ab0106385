"""What one document asks for together is answered, whatever fails beside it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from anyio.lowlevel import checkpoint
from graphql import ExecutionResult, OperationType

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import AnyPrincipal, Credential
from contact_gateway.access.rate_limits import Unlimited
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.outcomes import RateLimited, ReadRefusal
from contact_gateway.faces.graphql.document_source import DocumentSource
from contact_gateway.faces.graphql.execution import GraphQLRequest
from contact_gateway.faces.graphql.schema import build_schema
from contact_gateway.faces.graphql.types import GraphQLContext
from contact_gateway.faces.request_context import RequestContext
from support.fake_source import FakeSource

pytestmark = pytest.mark.anyio

TWO_OF_ONE_BRAND = """{
  a: advertiser(slug: "first") { hienergy { name } equivalents { id } }
  b: advertiser(slug: "second") { hienergy { name } }
  viewer { role }
}"""


@dataclass(eq=False)
class FailingAndSlow(FakeSource):
    """Fails to tell equivalents, and tells advertisers when a test says so."""

    failure: ReadRefusal | Exception
    asked_for: list[list[int]] = field(default_factory=list)
    failing: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def advertiser_by_slug(self, _: AnyPrincipal, slug: str) -> Advertiser:
        return Advertiser(id=len(slug), name=slug, network_name="CJ", hienergy_id=1001)

    async def advertisers_by_id(
        self, principal: AnyPrincipal, ids: Collection[int]
    ) -> Mapping[int, Advertiser]:
        self.asked_for.append(list(ids))
        await self.may_answer.wait()
        return await super().advertisers_by_id(principal, ids)

    async def equivalents(
        self, _: AnyPrincipal, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        self.failing.set()
        if isinstance(self.failure, Exception):
            raise self.failure
        return dict.fromkeys(hienergy_ids, self.failure)


@pytest.mark.parametrize("failure", [RateLimited(30), LookupError("no")], ids=["refused", "broken"])
async def test_a_field_that_fails_takes_nobodys_record_along(
    failure: ReadRefusal | Exception,
) -> None:
    source = FailingAndSlow(failure)
    executing = asyncio.create_task(_execute(source, TWO_OF_ONE_BRAND))
    await source.failing.wait()
    # Meanwhile what stands beside the failed field is let go.
    for _ in range(20):
        await checkpoint()
    source.may_answer.set()
    result = await executing

    assert result.data == {
        "a": None,
        "b": {"hienergy": {"name": "Northwind"}},
        "viewer": {"role": "MEMBER"},
    }
    assert [error.path for error in result.errors or ()] == [["a", "equivalents"]]
    assert source.asked_for == [[1001]]


async def _execute(source: FakeSource, text: str) -> ExecutionResult:
    caller = Caller(Credential("member"), source.authenticate, Unlimited())
    context = GraphQLContext(
        RequestContext("a-request", caller), DocumentSource(source), None, None
    )
    return await build_schema().execute(GraphQLRequest(text), context, {OperationType.QUERY})
