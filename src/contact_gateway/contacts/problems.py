"""Problems of an input: each has a field path, a code and a sentence."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, NamedTuple, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError


class DescribedCode(StrEnum):
    """A code for programs, with the sentence that describes it in the API's schemas."""

    meaning: str

    def __new__(cls, value: str, *_: object) -> Self:
        """Return the member with a value."""
        member = str.__new__(cls, value)
        member._value_ = value
        return member

    def __init__(self, _value: str, meaning: str) -> None:
        self.meaning = meaning


class ProblemCode(DescribedCode):
    """Why a value was refused."""

    REQUIRED = "REQUIRED", "The field is missing, null or empty, and must not be."
    INVALID_TYPE = "INVALID_TYPE", "The value has the wrong type."
    INVALID_CHARACTERS = (
        "INVALID_CHARACTERS",
        "The text contains control characters, NUL or lone surrogates.",
    )
    INVALID_EMAIL = "INVALID_EMAIL", "The text is not an e-mail address."
    INVALID_URL = "INVALID_URL", "The text is not an absolute http or https URL with a host."
    INVALID_IDEMPOTENCY_KEY = (
        "INVALID_IDEMPOTENCY_KEY",
        "The key is not 1 to 255 visible ASCII characters.",
    )
    INVALID_ARGUMENTS = (
        "INVALID_ARGUMENTS",
        "The arguments exclude each other, or one is given twice or in the wrong place.",
    )
    UNKNOWN_PARAMETER = "UNKNOWN_PARAMETER", "The operation has no parameter of this name."
    TOO_MANY_CALLS = "TOO_MANY_CALLS", "The request needs more calls to HiEnergy than are allowed."
    TOO_LONG = "TOO_LONG", "The text is too long for the field."
    OUT_OF_RANGE = "OUT_OF_RANGE", "The number is outside the range of the field."
    REFUSED = "REFUSED", "HiEnergy refuses the value; its message says why."


# So many unknown parameters are compared with the known ones, and so much of each.
_MAX_SUGGESTIONS: Final = 10
_MAX_COMPARED_LENGTH: Final = 64
_OTHER_NAMES: Final = {"dryRun": "dry_run", "onConflict": "on_conflict"}
# Pydantic's errors of the types of input, with its names of their limits.
_KINDS: Final = {
    "string_too_long": (ProblemCode.TOO_LONG, "At most {max_length} characters are allowed."),
    "greater_than_equal": (ProblemCode.OUT_OF_RANGE, "The smallest allowed value is {ge}."),
    "less_than_equal": (ProblemCode.OUT_OF_RANGE, "The largest allowed value is {le}."),
    "int_type": (ProblemCode.INVALID_TYPE, "A whole number is expected."),
    "string_type": (ProblemCode.INVALID_TYPE, "A string is expected."),
}


class Problem(NamedTuple):
    """One problem of an input. `path` uses the domain's names; a face translates it."""

    path: tuple[str, ...]
    code: ProblemCode
    message: str


def unknown_parameters(names: Iterable[str], known: Collection[str], *within: str) -> list[Problem]:
    """Return the problems of parameters that the operation does not have, below `within`."""
    return [
        # A comparison takes 0.1 ms, and a query may have thousands of names.
        _unknown_parameter((*within, name), known if number < _MAX_SUGGESTIONS else ())
        for number, name in enumerate(names)
    ]


def _unknown_parameter(path: tuple[str, ...], known: Collection[str]) -> Problem:
    nearest = get_close_matches(path[-1][:_MAX_COMPARED_LENGTH].lower(), known, n=1)
    names = ", ".join(f"`{name}`" for name in nearest or sorted(known))
    advice = f" Did you mean {names}?" if nearest else f" The parameters are {names}."
    message = f"Unknown parameter.{advice if names else ''}"
    return Problem(path, ProblemCode.UNKNOWN_PARAMETER, message)


def known_parameters(
    raw: Mapping[str, object], known: Collection[str]
) -> tuple[dict[str, object], list[Problem]]:
    """Return the parameters by their own names, and the problems of repeated and unknown ones.

    A parameter that is given more than once has a list as its value. None counts as not given.
    """
    given: dict[str, object] = {}
    repeated: list[Problem] = []
    unknown: list[str] = []
    for name, value in raw.items():
        own_name = _OTHER_NAMES.get(name, name)
        if own_name not in known:
            unknown.append(name)
        elif isinstance(value, list) or own_name in given:
            message = "The parameter is given more than once."
            repeated.append(Problem((name,), ProblemCode.INVALID_ARGUMENTS, message))
        elif value is not None:
            given[own_name] = value
    return given, [*repeated, *unknown_parameters(unknown, known)]


def refusal(code: ProblemCode, message: str) -> PydanticCustomError:
    """Return the exception by which a validator refuses a value."""
    return PydanticCustomError(code, "{message}", {"message": message})


def problems_of(error: ValidationError, *within: str) -> tuple[Problem, ...]:
    """Return the problems of a validation error, one for each field, below the path `within`."""
    return tuple(
        _problem(details, within)
        for details in error.errors(include_url=False, include_context=True)
    )


def _problem(details: ErrorDetails, within: tuple[str, ...]) -> Problem:
    path = (*within, *(str(part) for part in details["loc"]))
    kind = details["type"]
    if kind in ProblemCode.__members__:
        return Problem(path, ProblemCode[kind], details["msg"])
    if kind == "missing" or details["input"] is None or details["input"] == "":
        return Problem(path, ProblemCode.REQUIRED, "A value is required.")
    code, message = _KINDS.get(kind, (ProblemCode.INVALID_TYPE, "The value is not valid."))
    return Problem(path, code, message.format_map(details.get("ctx", {})))
