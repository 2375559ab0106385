"""Batched reads: lookups that are queued together are read together.

Lookups of single records share a statement. A page of a list is a record too: its key says which.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import Context
from itertools import chain, islice
from typing import Final, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store.batching import fill_batch
from contact_gateway.store.database import Database

MAX_BATCH_SIZE: Final = 256
"""How many records one statement reads at most: SQLite limits the parameters of a statement."""

Key = TypeVar("Key")
Record = TypeVar("Record")
_Futures: TypeAlias = list[asyncio.Future[Record | None]]
_Batch: TypeAlias = dict[Key, _Futures[Record]]


class BatchedReader(Generic[Key, Record]):
    """Reads records by key, in batches.

    A batch is all that was queued while the last one was read, so a lone lookup waits for no other.
    A lookup never joins a batch in flight, which may have read the record before it changed.
    `read` returns the records of those keys that exist.
    """

    def __init__(
        self,
        database: Database,
        read: Callable[[Connection, Collection[Key]], Mapping[Key, Record]],
        batch_size: int = MAX_BATCH_SIZE,
    ) -> None:
        self._database: Final = database
        self.read: Final = read
        self._batch_size: Final = batch_size
        self._queue: Final[_Batch[Key, Record]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Record | None:
        """Return the record with this key, or None.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        if self._task is None or self._task.done():
            # It serves all callers, so its log lines must not carry the first one's request id.
            self._task = asyncio.create_task(self._run_batches(), context=Context())
        future: asyncio.Future[Record | None] = self._task.get_loop().create_future()
        self._queue.setdefault(key, []).append(future)
        return await future

    async def get_all(self, keys: Iterable[Key]) -> Mapping[Key, Record]:
        """Return the records with these keys, without those that do not exist.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        unique = tuple(keys)
        found = await asyncio.gather(*map(self.get, unique))
        return {
            key: record for key, record in zip(unique, found, strict=True) if record is not None
        }

    async def _run_batches(self) -> None:
        while self._queue:
            await fill_batch(self._queue, self._batch_size)
            batch = dict(islice(self._queue.items(), self._batch_size))
            for key in batch:
                del self._queue[key]
            await self._run_batch(batch)

    async def _run_batch(self, batch: _Batch[Key, Record]) -> None:
        keys = batch.keys()
        try:
            found = await self._database.look_up(lambda connection: self.read(connection, keys))
        except Exception as error:  # noqa: BLE001 - each caller of the batch awaits an answer
            failed = [*batch.values()]
            if isinstance(error, SourceUnavailable):
                # The queued lookups would wait as long, in vain.
                failed.extend(self._queue.values())
                self._queue.clear()
            for future in chain.from_iterable(failed):
                if not future.done():
                    future.set_exception(error)
        else:
            for key, futures in batch.items():
                for future in futures:
                    if not future.done():
                        future.set_result(found.get(key))
