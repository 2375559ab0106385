"""Single records, read together: what is asked for at one moment shares a statement."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import Context
from itertools import chain, islice
from typing import Final, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store.batching import fill_batch
from contact_gateway.store.sqlite import Database

MAX_BATCH: Final = 256

Key = TypeVar("Key")
Record = TypeVar("Record")
_Batch: TypeAlias = dict[Key, list[asyncio.Future[Record | None]]]


class BatchedReader(Generic[Key, Record]):
    """Reads records by their keys, many to a statement.

    A lone caller waits for nobody: a batch is what was asked for while the last one was read. It
    is begun after all of it was asked for, so nobody gets a record as it was before they asked.
    """

    def __init__(
        self,
        database: Database,
        read: Callable[[Connection, Collection[Key]], Mapping[Key, Record]],
    ) -> None:
        self._database: Final = database
        self._read: Final = read
        self._waiting: Final[_Batch[Key, Record]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Record | None:
        """Return the record of a key, None where there is none.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        if self._task is None or self._task.done():
            # It serves all who come, and nothing in the name of the first.
            self._task = asyncio.create_task(self._drain(), context=Context())
        answer: asyncio.Future[Record | None] = self._task.get_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        return await answer

    async def get_all(self, keys: Iterable[Key]) -> Mapping[Key, Record]:
        """Return those of the records that there are.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        wanted = tuple(keys)
        found = await asyncio.gather(*map(self.get, wanted))
        return {
            key: record for key, record in zip(wanted, found, strict=True) if record is not None
        }

    async def _drain(self) -> None:
        while self._waiting:
            await fill_batch(self._waiting, MAX_BATCH)
            batch = dict(islice(self._waiting.items(), MAX_BATCH))
            for key in batch:
                del self._waiting[key]
            await self._answer(batch)

    async def _answer(self, batch: _Batch[Key, Record]) -> None:
        keys = batch.keys()
        try:
            found = await self._database.look_up(lambda connection: self._read(connection, keys))
        except SourceUnavailable as error:
            # It is nobody's fault, and those who came meanwhile would wait as long.
            _fail(chain(batch.values(), self._waiting.values()), error)
            self._waiting.clear()
            return
        except Exception as error:  # noqa: BLE001 - it is for those who wait to see
            _fail(batch.values(), error)
            return
        for key, answers in batch.items():
            for answer in _unanswered(answers):
                answer.set_result(found.get(key))


def _fail(waiting: Iterable[list[asyncio.Future[Record | None]]], error: Exception) -> None:
    for answer in _unanswered(chain.from_iterable(waiting)):
        answer.set_exception(error)


def _unanswered(
    answers: Iterable[asyncio.Future[Record | None]],
) -> Iterator[asyncio.Future[Record | None]]:
    """Leave out those whose callers have gone away."""
    return (answer for answer in answers if not answer.done())
