"""`createContact`: the rules, in their order, for every face.

Rules 1 to 4 stand here; 5 to 7 depend on what is stored and are `policy.decide`, which the
source asks while it holds the facts. Where the source is another system, that one judges the key
and the facts, and its refusals are the rules' own; the input is valid before it is asked.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from contact_gateway.access.caller import Caller
from contact_gateway.access.key_guessing import TooManyWrongKeys
from contact_gateway.access.principals import AnyPrincipal, KeyRefusal
from contact_gateway.contacts import policy
from contact_gateway.contacts.contact import NewContact, new_contact
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    InvalidInput,
    RateLimited,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import Creation, Source

_IDEMPOTENCY_KEY: Final = re.compile("[\x21-\x7e]{1,255}")
_TOO_MANY_GUESSES: Final = "Too many wrong API keys came from this address. Retry in {} s."
_DRY_RUN_SPELLINGS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Submission:
    """What a face read of a request, not yet looked at: raw values, None where there was none.

    `contact` is the raw object by the names of the published reference. `dry_run` is a boolean
    or, from a query string, its spelling. `origin` is for the audit trail.
    """

    contact: object
    idempotency_key: str | None = None
    dry_run: bool | str = False
    origin: Origin | None = None


async def create_contact(
    caller: Caller, read: Callable[[], Awaitable[Submission]], source: Source
) -> CreateContactOutcome:
    """Create a contact on the HiEnergy record of the submitted advertiser, or say why not.

    Args:
        caller: who sent the request.
        read: reads the submission. It is called only for a caller who may create a contact, so
            nobody else learns anything from the body; what it raises is the face's own.
        source: where the contact is created.

    Raises:
        SourceUnavailable: the source does not answer. The submission may be repeated.
    """
    principal = await identified(caller)
    if isinstance(principal, (Unauthorized, RateLimited)):
        return principal
    if (forbidden := policy.may_create(principal)) is not None:
        return forbidden
    window = await caller.spend(principal)
    if window is not None and window.exceeded:
        return RateLimited(window.seconds_left())
    submission = await read()
    creation = _validate(submission, principal)
    if isinstance(creation, InvalidInput):
        return creation
    return await source.create_contact(creation)


async def identified(caller: Caller) -> AnyPrincipal | Unauthorized | RateLimited:
    """Rule 1, for every operation: the caller presents a valid key, and does not guess at it."""
    principal = await caller.principal()
    if isinstance(principal, TooManyWrongKeys):
        return RateLimited(principal.seconds, _TOO_MANY_GUESSES.format(principal.seconds))
    if isinstance(principal, KeyRefusal):
        return Unauthorized(principal)
    return principal


def _validate(submission: Submission, principal: AnyPrincipal) -> Creation | InvalidInput:
    """Rule 4: read the raw values, or tell every problem of all of them at once."""
    problems: list[Problem] = []
    contact = new_contact(submission.contact)
    key = submission.idempotency_key
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        problems.append(
            Problem(
                ("idempotency_key",),
                ProblemCode.INVALID_IDEMPOTENCY_KEY,
                "An idempotency key is 1 to 255 visible ASCII characters.",
            )
        )
    dry_run = submission.dry_run
    if isinstance(dry_run, str):
        dry_run = dry_run.lower()
        if dry_run not in _DRY_RUN_SPELLINGS:
            problems.append(
                Problem(("dry_run",), ProblemCode.INVALID_TYPE, "`true` or `false` is expected.")
            )
        dry_run = _DRY_RUN_SPELLINGS.get(dry_run, True)
    if not isinstance(contact, NewContact):
        return InvalidInput((*contact, *problems))
    if problems:
        return InvalidInput(tuple(problems))
    return Creation(principal, contact, key, dry_run, submission.origin)
