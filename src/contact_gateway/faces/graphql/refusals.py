"""How a read that is refused is told in GraphQL: as an error with the refusal's code."""

from typing import TypeVar

from graphql import GraphQLError

from contact_gateway.contacts.outcomes import (
    Forbidden,
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem

T = TypeVar("T")


class ReadRefusedError(GraphQLError):
    """A read that is not answered, with what the caller is told of why."""

    def __init__(self, refusal: ReadRefusal) -> None:
        message = refusal.message
        details: dict[str, object] = {}
        match refusal:
            case RateLimited(seconds):
                details = {"retryAfterSeconds": seconds}
            case InvalidInput(problems):
                details = {"problems": [_formatted(problem) for problem in problems]}
                if len(problems) == 1 and refusal.said is None:
                    # Many clients show the message alone.
                    message = f"`{argument_path(problems[0])}`: {problems[0].message}"
            case Unauthorized() | Forbidden():
                pass
        super().__init__(message, extensions={"code": refusal.code, **details})


def granted(answer: T | ReadRefusal) -> T:
    """Return what was read.

    Raises:
        ReadRefusedError: it was refused.
    """
    if isinstance(answer, (Unauthorized, Forbidden, RateLimited, InvalidInput)):
        raise ReadRefusedError(answer)
    return answer


def argument_path(problem: Problem) -> str:
    """Spell a problem's path as GraphQL's callers know it: `input.linkedinProfileUrl`."""
    names = ("input" if name == "contact" else name for name in problem.path)
    return ".".join(_camel_case(name) for name in names)


def _formatted(problem: Problem) -> dict[str, str]:
    return {
        "path": argument_path(problem),
        "code": problem.code,
        "message": problem.message,
    }


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
