"""What every operation shares: a valid key, a quota, an idempotency key and dry runs."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from contact_gateway.access.key_guessing import TooManyWrongKeys
from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts.fields import Flag
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import RateLimited, Unauthorized
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.problems import Problem, ProblemCode, known_parameters, problems_of
from contact_gateway.contacts.source import Access, ContactCaller

_IDEMPOTENCY_KEY: Final = re.compile("[\x21-\x7e]{1,255}")
# A String of RFC 9651, section 3.3.3, as draft-ietf-httpapi-idempotency-key-header has it.
_STRUCTURED_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_FLAG: Final = TypeAdapter(Flag)
_PARAMETERS: Final = frozenset({"dry_run", "idempotency_key", "on_conflict"})
_NO_PARAMETERS: Final[Mapping[str, object]] = MappingProxyType({})
_ON_CONFLICT: Final = {each.value: each for each in OnConflict}
_UNKNOWN_ON_CONFLICT: Final = Problem(
    ("on_conflict",),
    ProblemCode.INVALID_ARGUMENTS,
    f"Use one of {', '.join(OnConflict)}.",
)
# In any spelling, since the contact would be created: in spite of a dry run, or twice.
_MISPLACED_DRY_RUN: Final = re.compile(r"(?:contact\.)?[\W_]*dry[\W_]*run[\W_]*", re.IGNORECASE)
_MISPLACED_KEY: Final = re.compile(r"(?:contact\.)?[\W_]*idempotency[\W_]*key[\W_]*", re.IGNORECASE)


async def authenticated(caller: ContactCaller) -> Access | Unauthorized | RateLimited:
    """Rule 1: the caller presents a valid key, from an address that is not guessing keys."""
    access = await caller.access()
    if isinstance(access, TooManyWrongKeys):
        seconds = access.seconds
        return RateLimited(
            seconds, f"Too many wrong API keys came from this address. Retry in {seconds} s."
        )
    if isinstance(access, KeyRefusal):
        return Unauthorized(access)
    return access


async def within_quota(caller: ContactCaller, access: Access) -> RateLimited | None:
    """Rule 3: count one operation against the key's quota."""
    quota = await caller.spend(access.principal)
    return RateLimited(quota.seconds_left()) if quota is not None and quota.exceeded else None


async def may_read(caller: ContactCaller) -> Access | Unauthorized | RateLimited:
    """Rules 1 and 3 for reads: any valid key; all reads of a request count as one operation."""
    access = await authenticated(caller)
    if isinstance(access, (Unauthorized, RateLimited)):
        return access
    quota = await caller.spend_on_reads(access.principal)
    if quota is not None and quota.exceeded:
        return RateLimited(quota.seconds_left())
    return access


class Submission(NamedTuple):
    """A submission as a face read it, before validation. None stands for what was not sent.

    Attributes:
        raw: the input, by the names of the published reference.
        idempotency_key: from an argument or a header; it is invalid if it is no text.
        dry_run: an argument of the operation.
        on_conflict: an argument of the operation.
        parameters: the other parameters: the text or the JSON value of each, or all its texts if
            there are several.
        ignored_fields: the paths of the fields that are sent beside those of the input.
        problems: what the face has found wrong, such as arguments that it does not know.
        origin: where the submission came from, for the audit trail.
    """

    raw: object
    idempotency_key: object = None
    dry_run: bool = False
    on_conflict: OnConflict = OnConflict.REFUSE
    parameters: Mapping[str, object] = _NO_PARAMETERS
    ignored_fields: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    origin: Origin | None = None


class Options(NamedTuple):
    """The validated options of a submission, and the problems found in them."""

    idempotency_key: str | None
    dry_run: bool
    on_conflict: OnConflict
    problems: tuple[Problem, ...]


def idempotency_key_of(text: str) -> str | None:
    """Return the key that a text stands for, or None if it is invalid.

    `"k-1"` in double quotes is the key `k-1`: clients of the draft standard quote the header, and
    others do not.
    """
    if text.startswith('"'):
        quoted = _STRUCTURED_STRING.fullmatch(text)
        text = "" if quoted is None else _ESCAPED.sub(r"\1", quoted[1])
    return text if _IDEMPOTENCY_KEY.fullmatch(text) else None


def options_of(submission: Submission) -> Options:
    """Validate the idempotency key, the other options and the unknown parameters."""
    _, sent_key, dry_run, on_conflict, parameters, ignored_fields, found, _ = submission
    if sent_key is None and not parameters and not ignored_fields:
        return Options(None, dry_run, on_conflict, found)
    given, unusable = known_parameters(parameters, _PARAMETERS) if parameters else ({}, [])
    problems = [*found, *_misplaced(ignored_fields), *unusable]
    key = None
    texts = [text for text in (sent_key, given.get("idempotency_key")) if text is not None]
    if texts:
        keys = {idempotency_key_of(text) if isinstance(text, str) else None for text in texts}
        key = keys.pop()
        if keys:
            problems.append(
                Problem(
                    ("idempotency_key",),
                    ProblemCode.INVALID_ARGUMENTS,
                    "The query and the header have different idempotency keys. Send one.",
                )
            )
        elif key is None:
            problems.append(
                Problem(
                    ("idempotency_key",),
                    ProblemCode.INVALID_IDEMPOTENCY_KEY,
                    "An idempotency key is 1 to 255 visible ASCII characters. Quotes around it "
                    "must be balanced.",
                )
            )
    flag = given.get("dry_run")
    if flag is not None:
        try:
            dry_run = _FLAG.validate_python(flag)
        except ValidationError as error:
            problems += problems_of(error, "dry_run")
    wanted = given.get("on_conflict")
    if wanted is not None:
        named = _ON_CONFLICT.get(wanted.lower()) if isinstance(wanted, str) else None
        if named is None:
            problems.append(_UNKNOWN_ON_CONFLICT)
        else:
            on_conflict = named
    return Options(key, dry_run, on_conflict, tuple(problems))


def _misplaced(ignored_fields: Iterable[str]) -> Iterator[Problem]:
    """Yield the problems of options in the body, where they would be ignored."""
    for path in ignored_fields:
        if _MISPLACED_DRY_RUN.fullmatch(path):
            message = "Ask for a dry run in the query: `?dry_run=true`."
        elif _MISPLACED_KEY.fullmatch(path):
            message = (
                "An idempotency key is sent in the header `Idempotency-Key`; in a batch, also as "
                "`idempotency_key` of a contact."
            )
        else:
            continue
        yield Problem(tuple(path.split(".")), ProblemCode.INVALID_ARGUMENTS, message)
