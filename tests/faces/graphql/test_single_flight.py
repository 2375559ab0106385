"""What is asked for by many is asked for once, whatever becomes of who asked first."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.faces.graphql.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Question:
    """Is answered when a test says so; notes how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.asked += 1
        return await asyncio.shield(self._answer)

    def answer(self, text: str) -> None:
        self._answer.set_result(text)

    def fail(self, error: Exception) -> None:
        self._answer.set_exception(error)


@pytest.fixture
async def question() -> Question:
    return Question()


async def _asking(once: SingleFlight[int, str], *questions: Question) -> list[asyncio.Task[str]]:
    """Ask each question under one key, all at one moment."""
    asking = [asyncio.create_task(once.get(1, question)) for question in questions]
    for _ in range(3):
        await checkpoint()
    return asking


async def test_who_asks_meanwhile_gets_the_same_answer(question: Question) -> None:
    asking = await _asking(SingleFlight(), question, question, question)
    question.answer("yes")

    assert await asyncio.gather(*asking) == ["yes"] * 3
    assert question.asked == 1


async def test_who_asks_later_gets_the_same_answer(question: Question) -> None:
    once: SingleFlight[int, str] = SingleFlight()
    question.answer("yes")

    assert [await once.get(1, question), await once.get(1, question)] == ["yes", "yes"]
    assert question.asked == 1


async def test_each_key_has_an_answer_of_its_own() -> None:
    once: SingleFlight[int, str] = SingleFlight()

    def asking(text: str) -> Callable[[], Awaitable[str]]:
        question = Question()
        question.answer(text)
        return question

    assert [await once.get(1, asking("one")), await once.get(2, asking("two"))] == ["one", "two"]


async def test_what_is_known_is_not_asked_for(question: Question) -> None:
    once: SingleFlight[int, str] = SingleFlight()
    once.put({1: "yes"})

    assert await once.get(1, question) == "yes"
    assert question.asked == 0


async def test_a_failure_is_told_to_all_who_want_to_know(question: Question) -> None:
    once: SingleFlight[int, str] = SingleFlight()
    asking = await _asking(once, question, question)
    question.fail(LookupError("no"))
    asking += await _asking(once, question)

    told = await asyncio.gather(*asking, return_exceptions=True)

    assert [str(error) for error in told] == ["no"] * 3
    assert question.asked == 1


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_who_goes_away_takes_nobodys_answer_along(question: Question, gone: int) -> None:
    asking = await _asking(SingleFlight(), question, question, question)
    leaving = asking.pop(gone)
    leaving.cancel()
    await asyncio.wait({leaving})
    question.answer("yes")

    assert leaving.cancelled()
    assert await asyncio.gather(*asking) == ["yes", "yes"]
