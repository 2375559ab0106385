"""Fields that share a lookup are not affected when another field fails."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from anyio.lowlevel import checkpoint
from graphql import ExecutionResult

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.outcomes import RateLimited, ReadRefusal
from contact_gateway.contacts.source import ContactCaller
from contact_gateway.faces.graphql.document_access import DocumentAccess
from contact_gateway.faces.graphql.execution import GraphQLRequest
from contact_gateway.faces.graphql.schema import build_schema
from contact_gateway.faces.request_context import RequestContext
from support.fake_source import LIMITS, FakeSource

pytestmark = pytest.mark.anyio

TWO_OF_ONE_BRAND = """{
  a: advertiser(slug: "first") { hienergy { name } equivalents { id } }
  b: advertiser(slug: "second") { hienergy { name } }
  viewer { role }
}"""


@dataclass(eq=False)
class FailingAndSlow(FakeSource):
    """Fails to return equivalents, and returns advertisers once the test allows it."""

    failure: ReadRefusal | Exception
    lookups: list[list[int]] = field(default_factory=list)
    failing: asyncio.Event = field(default_factory=asyncio.Event)
    may_respond: asyncio.Event = field(default_factory=asyncio.Event)

    async def advertiser_by_slug(self, slug: str) -> Advertiser:
        return Advertiser(id=len(slug), name=slug, network_name="CJ", hienergy_id=1001)

    async def advertisers_by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        self.lookups.append(list(ids))
        await self.may_respond.wait()
        return await super().advertisers_by_id(ids)

    async def equivalents(
        self, hienergy_ids: Collection[int]
    ) -> Mapping[int, Sequence[Advertiser] | ReadRefusal]:
        self.failing.set()
        if isinstance(self.failure, Exception):
            raise self.failure
        return dict.fromkeys(hienergy_ids, self.failure)


@pytest.mark.parametrize("failure", [RateLimited(30), LookupError("no")], ids=["refused", "broken"])
async def test_a_field_that_fails_does_not_cancel_a_shared_lookup(
    failure: ReadRefusal | Exception,
) -> None:
    source = FailingAndSlow(failure)
    executing = asyncio.create_task(_execute(source, TWO_OF_ONE_BRAND))
    await source.failing.wait()
    # The executor cancels the siblings of the failed field meanwhile.
    for _ in range(20):
        await checkpoint()
    source.may_respond.set()
    result = await executing

    assert result.data == {
        "a": None,
        "b": {"hienergy": {"name": "Northwind"}},
        "viewer": {"role": "MEMBER"},
    }
    assert [error.path for error in result.errors or ()] == [["a", "equivalents"]]
    assert source.lookups == [[1001]]


async def _execute(source: FakeSource, text: str) -> ExecutionResult:
    caller: ContactCaller = Caller(Credential.of("member"), source.authenticate)
    caller.decorate(partial(DocumentAccess, limits=LIMITS))
    context = RequestContext("a-request", caller)
    return await build_schema(LIMITS).execute(GraphQLRequest(text), context, queries_only=True)
