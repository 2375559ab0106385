"""What is asked for by many is asked for once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class _GivenUpError(Exception):
    """Who asked has gone away before the answer came."""


class SingleFlight(Generic[Key, Answer]):
    """Asks once for each key; whoever asks again, also meanwhile, gets the same answer.

    A DataLoader does as much and gathers the keys of a moment, for which it starts a task. This is
    for what is asked for one by one.
    """

    def __init__(self) -> None:
        self._known: Final[dict[Key, Answer]] = {}
        self._asked: Final[dict[Key, asyncio.Future[Answer]]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to a key. What asking raises is raised to all who want to know."""
        while key not in self._known:
            asked = self._asked.get(key)
            if asked is None:
                self._known[key] = await self._answer(key, ask)
                break
            try:
                # Who waits for another's question must not take it back.
                return await asyncio.shield(asked)
            except _GivenUpError:
                continue
        return self._known[key]

    def know(self, answers: Mapping[Key, Answer]) -> None:
        """Take answers from elsewhere."""
        self._known.update(answers)

    async def _answer(self, key: Key, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await ask()
        except Exception as error:
            _fail(asked, error)
            raise
        except BaseException:
            del self._asked[key]
            _fail(asked, _GivenUpError())
            raise
        asked.set_result(answer)
        return answer


def _fail(asked: "asyncio.Future[Answer]", error: Exception) -> None:
    asked.set_exception(error)
    # Perhaps nobody else waits, which is no mistake.
    asked.exception()
