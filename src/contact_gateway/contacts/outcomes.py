"""Every outcome of an operation, once.

    BatchedOutcome
    ├── Created                 the contact is durably stored
    ├── Existing                it existed before, and the caller asked for it
    ├── Previewed               a dry run would have created it
    ├── Refusal                 in the order of the rules
    │   ├── Unauthorized        1  no valid key
    │   ├── Forbidden           2  a valid key, not an admin's
    │   ├── RateLimited         3  the key's quota is used up
    │   ├── InvalidInput        4  every problem of the input
    │   ├── IdempotencyKeyReused  5  the key was used with another input
    │   ├── NotFound            6  no HiEnergy advertiser
    │   ├── Conflict            7  the address is taken on that record
    │   └── OutcomeUnknown      8  only in front of HiEnergy: the contact may exist, or not
    └── Failure                 only in a batch; a single creation raises an exception
        ├── Unavailable         the source does not respond
        └── NotTried            the batch was stopped before this submission

An outcome added here is an error of the type checker at every place that has to render it. Its
message comes from the operation that returns it, or from upstream. `details` is what upstream added
to its refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, NamedTuple, TypeAlias

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, ContactPreview
from contact_gateway.contacts.problems import DescribedCode, Problem


class ErrorCode(DescribedCode):
    """Why an operation was refused."""

    UNAUTHORIZED = "UNAUTHORIZED", "No valid, unexpired, unrevoked API key was presented."
    FORBIDDEN = (
        "FORBIDDEN",
        "The API key is valid, but its role is too low: only admins create contacts.",
    )
    RATE_LIMITED = "RATE_LIMITED", "The API key's quota for this hour is used up."
    INVALID_INPUT = "INVALID_INPUT", "The input is not valid; every problem is listed."
    IDEMPOTENCY_KEY_REUSED = (
        "IDEMPOTENCY_KEY_REUSED",
        "The idempotency key was used before with a different input.",
    )
    NOT_FOUND = (
        "NOT_FOUND",
        "A record does not exist, or the submitted advertiser has no HiEnergy record.",
    )
    CONFLICT = (
        "CONFLICT",
        "The HiEnergy advertiser already has a contact with this e-mail address.",
    )
    OUTCOME_UNKNOWN = (
        "OUTCOME_UNKNOWN",
        (
            "HiEnergy may have created the contact: its answer was lost. A repeat with the same "
            "idempotency key looks for the contact, and creates none."
        ),
    )
    SERVICE_UNAVAILABLE = (
        "SERVICE_UNAVAILABLE",
        "The source of truth does not respond, or its queue is full. Retry later.",
    )
    NOT_TRIED = (
        "NOT_TRIED",
        "The batch was stopped before this submission, which may be sent again.",
    )


BATCH_CODES: Final = frozenset({ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.NOT_TRIED})
"""The codes of failures, which only the submissions of a batch have as outcomes."""

_KEY_REFUSALS: Final = {
    KeyRefusal.MISSING: "An API key is required. Send it as X-Api-Key or Authorization: Bearer.",
    KeyRefusal.MALFORMED: "This is not an API key of this gateway. Check it for typos.",
    KeyRefusal.UNKNOWN: "Unknown API key. Check which gateway it belongs to.",
    KeyRefusal.EXPIRED: "This API key has expired. Ask the operator for a new one.",
    KeyRefusal.REVOKED: "This API key has been revoked. Ask the operator for a new one.",
    KeyRefusal.ROTATED: "This API key has been replaced. Use the new one.",
    KeyRefusal.REFUSED: "HiEnergy does not accept this API key.",
}
Details: TypeAlias = Mapping[str, object]


class Created(NamedTuple):
    """The contact is stored, by this submission or, if replayed, by an earlier equal one."""

    contact: Contact
    replayed: bool = False


class Existing(NamedTuple):
    """The contact existed before, and the caller asked for it instead of a conflict."""

    contact: Contact


class Previewed(NamedTuple):
    """Every rule holds; a dry run creates nothing."""

    preview: ContactPreview


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """Rule 1: the caller presents no valid, unexpired, unrevoked key."""

    code: ClassVar[ErrorCode] = ErrorCode.UNAUTHORIZED
    reason: KeyRefusal
    upstream_message: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What is wrong with the credential."""
        return self.upstream_message or _KEY_REFUSALS[self.reason]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Rule 2: the key is valid, and its owner is not an admin."""

    code: ClassVar[ErrorCode] = ErrorCode.FORBIDDEN
    message: str
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Rule 3: the key has used up its quota."""

    code: ClassVar[ErrorCode] = ErrorCode.RATE_LIMITED
    retry_after_seconds: int
    upstream_message: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """When to retry."""
        return (
            self.upstream_message
            or f"The API key's hourly limit is reached. Retry in {self.retry_after_seconds} s."
        )


@dataclass(frozen=True, slots=True)
class InvalidInput:
    """Rule 4: the input is not valid. Reports every problem at once."""

    code: ClassVar[ErrorCode] = ErrorCode.INVALID_INPUT
    problems: tuple[Problem, ...]
    upstream_message: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """How many problems there are."""
        if self.upstream_message:
            return self.upstream_message
        count = len(self.problems)
        return f"The input has {count} problem{'s' if count > 1 else ''}."


@dataclass(frozen=True, slots=True)
class IdempotencyKeyReused:
    """Rule 5: the idempotency key was used before with another input."""

    code: ClassVar[ErrorCode] = ErrorCode.IDEMPOTENCY_KEY_REUSED
    message: str
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotFound:
    """Rule 6: a record that the operation needs does not exist, or is not the only candidate."""

    code: ClassVar[ErrorCode] = ErrorCode.NOT_FOUND
    message: str
    details: Details = field(default_factory=dict)
    candidates: tuple[Advertiser, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflict:
    """Rule 7: the HiEnergy advertiser already has a contact with this address.

    `existing` is None only where upstream refuses and does not show the contact.
    """

    code: ClassVar[ErrorCode] = ErrorCode.CONFLICT
    existing: Contact | None
    message: str
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """Rule 8: the contact may have been created, or may still be. Nothing is sent again.

    Attributes:
        retry_after_seconds: when a repeat with the same idempotency key may find the contact.
        advertiser_id: the submitted advertiser.
        sent_at: when the creation was sent.
    """

    code: ClassVar[ErrorCode] = ErrorCode.OUTCOME_UNKNOWN
    message: str
    retry_after_seconds: int
    advertiser_id: int
    sent_at: datetime
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The source does not respond, or its queue is full. The submission may be repeated."""

    code: ClassVar[ErrorCode] = ErrorCode.SERVICE_UNAVAILABLE
    message: str
    retry_after_seconds: int
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotTried:
    """The batch was stopped before this submission, so it has changed nothing."""

    code: ClassVar[ErrorCode] = ErrorCode.NOT_TRIED
    message: str
    details: Details = field(default_factory=dict)


Refusal: TypeAlias = (
    Unauthorized
    | Forbidden
    | RateLimited
    | InvalidInput
    | IdempotencyKeyReused
    | NotFound
    | Conflict
    | OutcomeUnknown
)
Failure: TypeAlias = Unavailable | NotTried
CreateContactOutcome: TypeAlias = Created | Existing | Previewed | Refusal
BatchedOutcome: TypeAlias = CreateContactOutcome | Failure
AdmissionRefusal: TypeAlias = Unauthorized | Forbidden | RateLimited
"""The refusals by rules 1 to 3; `isinstance` takes it, and the next."""
ReadRefusal: TypeAlias = AdmissionRefusal | InvalidInput
"""The refusals of a read, and of a whole batch: those by rules 1 to 4."""


def outcome_name(outcome: BatchedOutcome) -> str:
    """Return the name of an outcome for logs and metrics."""
    match outcome:
        case Created(replayed=True):
            return "REPLAYED"
        case Created():
            return "CREATED"
        case Existing():
            return "EXISTING"
        case Previewed():
            return "PREVIEWED"
        case refusal:
            return refusal.code
