"""What every operation shares: a valid key, a quota, an idempotency key and dry runs."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from contact_gateway.access.key_guessing import TooManyWrongKeys
from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import RateLimited, Unauthorized
from contact_gateway.contacts.problems import Problem, ProblemCode, unknown_parameter
from contact_gateway.contacts.source import Access, ContactCaller

_IDEMPOTENCY_KEY: Final = re.compile("[\x21-\x7e]{1,255}")
# A String of RFC 9651, section 3.3.3, as draft-ietf-httpapi-idempotency-key-header has it.
_STRUCTURED_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


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


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as a face read it, before validation. None stands for what was not sent.

    Attributes:
        raw: the input, by the names of the published reference.
        idempotency_key: the text of the idempotency key.
        dry_run: a boolean, or its text in a query string.
        unknown_parameters: the names of other query parameters.
        origin: where the submission came from, for the audit trail.
    """

    raw: object
    idempotency_key: str | None = None
    dry_run: bool | str = False
    unknown_parameters: tuple[str, ...] = ()
    origin: Origin | None = None


class Options(NamedTuple):
    """The validated options of a submission, and the problems found in them."""

    idempotency_key: str | None
    dry_run: bool
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
    """Validate the idempotency key, the dry-run flag and the names of query parameters."""
    problems = [unknown_parameter(name) for name in submission.unknown_parameters]
    text, dry_run = submission.idempotency_key, submission.dry_run
    key = None if text is None else idempotency_key_of(text)
    if text is not None and key is None:
        problems.append(
            Problem(
                ("idempotency_key",),
                ProblemCode.INVALID_IDEMPOTENCY_KEY,
                "An idempotency key is 1 to 255 visible ASCII characters. Quotes around it must be "
                "balanced.",
            )
        )
    if isinstance(dry_run, str):
        flag = dry_run.lower()
        if flag not in _BOOLEANS:
            problems.append(
                Problem(("dry_run",), ProblemCode.INVALID_TYPE, "`true` or `false` is expected.")
            )
        dry_run = _BOOLEANS.get(flag, True)
    return Options(key, dry_run, tuple(problems))
