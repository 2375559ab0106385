"""Parsers of the bodies of upstream's refusals.

Which format HiEnergy uses is documented for few operations. So each of these is read: the envelope
`{"error": {"code", "message", "details"}}`, JSON:API's `errors`, Rails' `errors` by field or as
sentences, lists of `{"field", "message"}`, problem details (RFC 9457), and a text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from contact_gateway.contacts.contact import ContactDetails

WHOLE_CONTACT: Final = ("contact",)
"""The path of a problem that names no field."""

_MAX_TEXT_LENGTH: Final = 1000
_MAX_PROBLEMS: Final = 100
_MAX_DETAILS_DEPTH: Final = 16
_MAX_PROBLEMS_DEPTH: Final = 4
_MAX_NAMES: Final = 4
_FIELDS: Final = frozenset(ContactDetails._fields)
# Outside of `errors`, these names are rarely about the contact: `{"status": "Not Found"}`.
_AMBIGUOUS_FIELDS: Final = frozenset({"name", "source", "status"})
_WRAPPERS: Final = frozenset({"attributes", "body", "contact", "contacts", "data", "input"})
_NAME: Final = re.compile(r"[\w-]{1,100}")
_TAKEN: Final = re.compile(
    r"\balready (?:been )?(?:exists?|in use|registered|taken)\b|\bduplicate|\bmust be unique\b",
    re.IGNORECASE,
)
_TAKEN_CODES: Final = frozenset(
    {"already_exists", "duplicate", "email_taken", "not_unique", "taken"}
)
_OTHER_FIELD: Final = re.compile(
    r"^advertiser\b|\b(?:job title|linkedin|name|phone|source|status)\b"
)

_Object: TypeAlias = Mapping[str, object]


class ReportedProblem(NamedTuple):
    """A problem of the input as upstream reports it. `path` begins with `contact`."""

    path: tuple[str, ...]
    message: str
    code: str | None = None

    def is_taken_address(self) -> bool:
        """Return whether the problem is that a contact with the e-mail address exists already."""
        code = (self.code or "").lower()
        if code not in _TAKEN_CODES and not _TAKEN.search(self.message):
            return False
        if self.path == WHOLE_CONTACT:
            return not _OTHER_FIELD.search(self.message.lower().replace("_", " "))
        return self.path == (*WHOLE_CONTACT, "email")


class ErrorBody(NamedTuple):
    """What the body of a refusal says.

    Attributes:
        message: the sentence about the whole request.
        code: its code for programs.
        details: the object `details`, if it is not nested too deeply to be serialized again.
        problems: the problems of the input.
    """

    message: str | None
    code: str | None
    details: _Object
    problems: tuple[ReportedProblem, ...]

    @property
    def sentence(self) -> str | None:
        """The message, or else that of the first problem."""
        return self.message or next((problem.message for problem in self.problems), None)


def is_error(body: object) -> bool:
    """Return whether a parsed body describes an error: an object or a text that is not empty."""
    return isinstance(body, (Mapping, str)) and bool(body)


def error_body_of(body: object) -> ErrorBody:
    """Parse the body of a refusal, as far as it can be read."""
    if not isinstance(body, Mapping):
        body = {"errors" if isinstance(body, list) else "error": body}
    error = body.get("error")
    envelope = error if isinstance(error, Mapping) else body
    details = envelope.get("details")
    return ErrorBody(
        message=_first_text(
            envelope.get("message"),
            body.get("message"),
            envelope.get("error_description"),
            error,
            envelope.get("detail"),
            envelope.get("title"),
        ),
        code=_text(envelope.get("code")),
        details=details if isinstance(details, Mapping) and _is_shallow(details) else {},
        problems=_unique(_problems_of_object(body, envelope)),
    )


def _problems_of_object(body: _Object, envelope: _Object) -> Iterator[ReportedProblem]:
    details = envelope.get("details")
    if isinstance(details, Mapping):
        yield from _problems(details.get("problems"))
    yield from _problems(body.get("errors"))
    yield from _problems(envelope.get("errors"))
    if isinstance(body.get("error"), list):
        yield from _problems(body.get("error"))
    for each in (details, body.get("details")):
        yield from _problems_of_fields(each) if isinstance(each, Mapping) else _problems(each)
    yield from _problems_of_fields(envelope)


def _problems(
    reported: object, path: tuple[str, ...] = WHOLE_CONTACT, depth: int = 0
) -> Iterator[ReportedProblem]:
    """Parse a sentence, a problem, a list of these, or an object of these by field."""
    if depth > _MAX_PROBLEMS_DEPTH:
        return
    match reported:
        case str():
            text = _text(reported)
            if text:
                yield ReportedProblem(path, text)
        case list():
            for each in reported:
                yield from _problems(each, path, depth + 1)
        case Mapping():
            problem = _problem(reported, path)
            if problem is not None:
                yield problem
                return
            for name, each in reported.items():
                yield from _problems(each, _path(str(name), path), depth + 1)
        case _:
            pass


def _problems_of_fields(members: _Object, depth: int = 0) -> Iterator[ReportedProblem]:
    """Parse the problems of a contact's fields in an object that also has other members."""
    for name, value in members.items():
        match value:
            case Mapping() if name in _WRAPPERS and depth < _MAX_PROBLEMS_DEPTH:
                yield from _problems_of_fields(value, depth + 1)
            case list() if name in _FIELDS or name == "base":
                yield from _problems(value, _path(name))
            # A text without a space is a value that was submitted, or a code.
            case str() if name in _FIELDS - _AMBIGUOUS_FIELDS and " " in value.strip():
                yield from _problems(value, _path(name))
            case Mapping() if name in _FIELDS - _AMBIGUOUS_FIELDS:
                yield from _problems(value, _path(name))


def _problem(reported: _Object, path: tuple[str, ...]) -> ReportedProblem | None:
    """Parse one problem of JSON:API, of the envelope, of Rails' `details`, or of a similar list."""
    code = _first_text(reported.get("code"), reported.get("error"))
    message = _first_text(
        reported.get("detail"), reported.get("message"), reported.get("title"), code
    )
    source = reported.get("source")
    pointer = _first_text(
        *((source.get("pointer"), source.get("parameter")) if isinstance(source, Mapping) else ()),
        reported.get("path"),
        reported.get("field"),
        reported.get("attribute"),
    )
    if pointer is not None:
        return ReportedProblem(_path(pointer), message or "HiEnergy refuses the value.", code)
    return None if message is None else ReportedProblem(path, message, code)


def _path(pointer: str, within: tuple[str, ...] = WHOLE_CONTACT) -> tuple[str, ...]:
    """Parse `/data/attributes/email`, `contact.email`, `contact[email]` or `email`."""
    names = _NAME.findall(pointer[:_MAX_TEXT_LENGTH])
    if within == WHOLE_CONTACT:
        while names and (names[0] in _WRAPPERS or names[0].isdecimal()):
            names = names[1:]
    return within if names in ([], ["base"]) else (*within, *names[:_MAX_NAMES])


def _unique(problems: Iterable[ReportedProblem]) -> tuple[ReportedProblem, ...]:
    """Return the problems without repetitions of one in another format, and not too many."""
    by_content: dict[tuple[tuple[str, ...], str], ReportedProblem] = {}
    for problem in islice(problems, _MAX_PROBLEMS):
        by_content.setdefault((problem.path, problem.message), problem)
    return tuple(by_content.values())


def _first_text(*values: object) -> str | None:
    return next((text for text in map(_text, values) if text), None)


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value.strip()[:_MAX_TEXT_LENGTH] or None


def _is_shallow(value: object, depth: int = 0) -> bool:
    """Return whether a value can be serialized without exceeding the recursion limit."""
    if depth > _MAX_DETAILS_DEPTH:
        return False
    match value:
        case Mapping():
            return all(_is_shallow(member, depth + 1) for member in value.values())
        case list():
            return all(_is_shallow(member, depth + 1) for member in value)
        case _:
            return True
