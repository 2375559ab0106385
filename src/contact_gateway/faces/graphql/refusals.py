"""How GraphQL reports a refused read: an error with the refusal's code."""

from typing import Final, TypeVar, assert_never

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

_ARGUMENTS: Final = {"contact": "input", "contacts": "submissions"}


def granted(result: T | ReadRefusal) -> T:
    """Return what was read.

    Raises:
        GraphQLError: the read was refused, with the code and the details of the refusal.
    """
    if isinstance(result, ReadRefusal):
        raise _error_of(result)
    return result


def _error_of(refusal: ReadRefusal) -> GraphQLError:
    message = refusal.message
    details: dict[str, object] = {}
    match refusal:
        case RateLimited(seconds):
            details = {"retryAfterSeconds": seconds}
        case InvalidInput(problems):
            shown = [each._asdict() | {"path": argument_path(each)} for each in problems]
            details = {"problems": shown}
            if len(problems) == 1 and refusal.upstream_message is None:
                # Many clients show only the message.
                message = f"`{argument_path(problems[0])}`: {problems[0].message}"
        case Unauthorized() | Forbidden():
            pass
        case _:
            assert_never(refusal)
    return GraphQLError(message, extensions={"code": refusal.code, **details})


def argument_path(problem: Problem) -> str:
    """Return a problem's path in GraphQL's names, such as `input.linkedinProfileUrl`."""
    return ".".join(_camel_case(_ARGUMENTS.get(name, name)) for name in problem.path)


def submission_path(index: int, problem: Problem) -> str:
    """Return the path of a problem of a submission, such as `submissions.3.contact.email`."""
    return ".".join(("submissions", str(index), *map(_camel_case, problem.path)))


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
