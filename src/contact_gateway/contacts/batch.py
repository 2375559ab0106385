"""A batch: many submissions at once, and an outcome for each."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.contact import unknown_fields
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    Created,
    Existing,
    Failure,
    ReadRefusal,
    Refusal,
)
from contact_gateway.contacts.problems import Problem, ProblemCode

T = TypeVar("T")

_KEY: Final = "idempotency_key"
_NO_OPTIONS: Final = Submission(raw=None)


class Entry(NamedTuple):
    """One submission of a batch, as a face read it.

    Attributes:
        contact: the fields of the contact, by the names of the published reference.
        idempotency_key: of any type; None if the entry has none.
        ignored_fields: the paths of the fields beside those of a contact, as in `Submission`.
    """

    contact: object
    idempotency_key: object = None
    ignored_fields: tuple[str, ...] = ()


class Batch(NamedTuple):
    """The submissions of a batch, as a face read them, before validation.

    Attributes:
        entries: the submissions in order, or why they cannot be read.
        options: the options of all of them, as a submission without a contact.
    """

    entries: Sequence[Entry] | Problem
    options: Submission = _NO_OPTIONS


class BatchOutcome(NamedTuple):
    """The outcome of each submission of a batch, in their order."""

    outcomes: Sequence[BatchedOutcome]

    @property
    def created(self) -> int:
        """How many contacts the batch, or an earlier one with its idempotency keys, created."""
        return sum(isinstance(outcome, Created) for outcome in self.outcomes)

    @property
    def existed(self) -> int:
        """How many contacts existed before, and were returned instead of a conflict."""
        return sum(isinstance(outcome, Existing) for outcome in self.outcomes)

    @property
    def refused(self) -> int:
        """How many submissions have an error."""
        return sum(isinstance(outcome, Refusal | Failure) for outcome in self.outcomes)


def entries_of(raw: object) -> Sequence[Entry] | Problem:
    """Return the entries of a list of contacts, each of which may have an `idempotency_key`."""
    if raw is None:
        return Problem(("contacts",), ProblemCode.REQUIRED, "A list of contacts is required.")
    if not isinstance(raw, list):
        return Problem(("contacts",), ProblemCode.INVALID_TYPE, "A list is expected.")
    return [_entry_of(contact) for contact in raw]


def _entry_of(contact: object) -> Entry:
    if not isinstance(contact, Mapping):
        return Entry(contact)
    ignored = (f"contact.{name}" for name in unknown_fields(contact) if name != _KEY)
    return Entry(contact, contact.get(_KEY), tuple(ignored))


def batch_outcome_name(outcome: BatchOutcome | ReadRefusal) -> str:
    """Return the name of a batch's outcome for logs and metrics."""
    if isinstance(outcome, ReadRefusal):
        return outcome.code
    return "PARTIAL" if outcome.refused else "OK"


def derived_key(idempotency_key: str, index: int) -> str:
    """Return the idempotency key of a submission without one, if the whole batch has one."""
    return hashlib.sha256(f"{index}:{idempotency_key}".encode()).hexdigest()


def independent(
    submissions: Iterable[T], keys_of: Callable[[T], Collection[object]]
) -> Iterator[Sequence[T]]:
    """Split submissions, in order, so that no two of a part share a key.

    So no outcome in a part depends on another one in it.
    """
    part: list[T] = []
    shared: set[object] = set()
    for submission in submissions:
        keys = keys_of(submission)
        if not shared.isdisjoint(keys):
            yield part
            part, shared = [], set()
        part.append(submission)
        shared.update(keys)
    yield part
