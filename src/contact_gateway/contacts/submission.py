"""What every operation that changes something is submitted with, beside its input."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.problems import Problem, ProblemCode

_IDEMPOTENCY_KEY: Final = re.compile("[\x21-\x7e]{1,255}")
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as a face read it, before validation. None stands for what was not sent.

    Attributes:
        contact: the raw input, by the names of the published reference.
        idempotency_key: the idempotency key.
        dry_run: a boolean, or its text in a query string.
        origin: where the submission came from, for the audit trail.
    """

    contact: object
    idempotency_key: str | None = None
    dry_run: bool | str = False
    origin: Origin | None = None


class Options(NamedTuple):
    """The validated options of a submission, and the problems found in them."""

    dry_run: bool
    problems: tuple[Problem, ...]


def options_of(submission: Submission) -> Options:
    """Validate the idempotency key and the dry-run flag."""
    problems: list[Problem] = []
    key, dry_run = submission.idempotency_key, submission.dry_run
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        problems.append(
            Problem(
                ("idempotency_key",),
                ProblemCode.INVALID_IDEMPOTENCY_KEY,
                "An idempotency key is 1 to 255 visible ASCII characters.",
            )
        )
    if isinstance(dry_run, str):
        text = dry_run.lower()
        if text not in _BOOLEANS:
            problems.append(
                Problem(("dry_run",), ProblemCode.INVALID_TYPE, "`true` or `false` is expected.")
            )
        dry_run = _BOOLEANS.get(text, True)
    return Options(dry_run, tuple(problems))
