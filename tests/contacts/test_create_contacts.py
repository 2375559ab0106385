"""Batches on a source that returns the same each time."""

import asyncio
from collections.abc import Sequence

import pytest

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential
from contact_gateway.contacts.batch import Batch, Entry
from contact_gateway.contacts.create_contacts import create_contacts
from contact_gateway.contacts.outcomes import BatchedOutcome
from contact_gateway.contacts.source import ContactCaller, Creation
from support.fake_source import FakeSource

pytestmark = pytest.mark.anyio


async def test_other_tasks_run_each_time_that_a_hundred_submissions_are_validated() -> None:
    turns = turns_before_the_creations = 0

    class Source(FakeSource):
        async def create_contacts(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
            nonlocal turns_before_the_creations
            turns_before_the_creations = turns
            return await super().create_contacts(creations)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read() -> Batch:
        contact = {"advertiser_id": 1001, "email": "noor@example.com"}
        return Batch([Entry(contact)] * 250)

    caller: ContactCaller = Caller(Credential.of("admin"), Source().authenticate)
    counting = asyncio.create_task(count_turns())
    await create_contacts(caller, read, max_size=250)
    counting.cancel()

    assert turns_before_the_creations == 3
