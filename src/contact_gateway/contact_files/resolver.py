"""An import into a source of truth of this process, by the operation `createContacts`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
    invalid,
    not_found,
)
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.batch import Batch, BatchOutcome, Entry
from contact_gateway.contacts.contact import Contact, NewContact, new_contact
from contact_gateway.contacts.create_contacts import create_contacts
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    Conflict,
    Created,
    Existing,
    InvalidInput,
    NotFound,
    NotTried,
    OutcomeUnknown,
    Previewed,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from contact_gateway.contacts.source import Access


class Resolver(NamedTuple):
    """Implements `importing.Destination` over a source of truth.

    Attributes:
        name: the name of the source in sentences.
        chunk_size: how many rows it takes at once.
        authenticate: returns the access of the credential.
        credential: of the caller, or any for the operator.
        options: the options of each row, as a submission without a contact.
        uses_keys: whether rows have idempotency keys, which the operator's have not.
    """

    name: str
    chunk_size: int
    authenticate: Callable[[Credential], Awaitable[Access | KeyRefusal]]
    credential: Credential
    options: Submission
    uses_keys: bool

    async def create(self, rows: Sequence[Submitted]) -> Sequence[RowOutcome | Postponed]:
        """Create the contacts of rows; return the outcome of each."""
        keys = [row.idempotency_key() if self.uses_keys else None for row in rows]
        entries = [Entry(row.contact, key) for row, key in zip(rows, keys, strict=True)]

        async def read() -> Batch:
            return Batch(entries, self.options)

        caller = Caller[Access](self.credential, self.authenticate)
        answer = await create_contacts(caller, read, self.chunk_size)
        match answer:
            case BatchOutcome(outcomes):
                return [
                    _row_outcome(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)
                ]
            case RateLimited(seconds):
                return [Postponed(seconds)] * len(rows)
            case refusal:
                raise ImportStoppedError(refusal.message)


def _row_outcome(row: Submitted, outcome: BatchedOutcome) -> RowOutcome | Postponed:
    match outcome:
        case Created(contact, replayed):
            return RowOutcome(Outcome.EXISTS if replayed else Outcome.CREATED, contact.id)
        case Existing(contact):
            return RowOutcome(Outcome.EXISTS, contact.id)
        case Previewed():
            return RowOutcome(Outcome.CHECKED)
        case Conflict(Contact() as existing, message):
            return outcome_of_conflict(row, existing, message)
        case Conflict(message=message):
            return RowOutcome(Outcome.CONFLICT, message=message)
        case InvalidInput(problems):
            return invalid((problem.path[-1], problem.message) for problem in problems)
        case NotFound(message):
            return not_found(row, message)
        case OutcomeUnknown(message):
            return RowOutcome(Outcome.UNKNOWN, message=message)
        case RateLimited(seconds):
            return Postponed(seconds)
        case Unavailable(message, seconds):
            return Postponed(seconds, message)
        case NotTried() | Unauthorized():
            # A key that expires refuses every row. It stops the import when this one is sent again.
            return Postponed(0, outcome.message)
        case refusal:
            return RowOutcome(Outcome.REFUSED, message=refusal.message)


def outcome_of_conflict(row: Submitted, existing: Contact, message: str) -> RowOutcome:
    """Return `exists` if the contact with the row's address has all of the row's values.

    Idempotency keys are forgotten, and the operator has none. So a repeated import is as quick and
    as right after years.
    """
    contact = new_contact(row.contact)
    if isinstance(contact, NewContact) and contact.has_values_of(existing):
        return RowOutcome(Outcome.EXISTS, existing.id)
    return RowOutcome(Outcome.CONFLICT, existing.id, message)
