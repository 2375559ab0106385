"""Every outcome of `createContact`, once.

    CreateContactOutcome
    ├── Created                 the contact is durably stored
    ├── Previewed               a dry run would have created it
    └── Refusal                 in the order of the rules
        ├── Unauthorized        1  no valid key
        ├── Forbidden           2  a valid key, not an admin's
        ├── RateLimited         3  the key's budget is spent
        ├── InvalidInput        4  every problem of the input
        ├── IdempotencyKeyReused  5  the key was used with another input
        ├── NotFound            6  no HiEnergy advertiser
        └── Conflict            7  the address is taken on that record

Adding an outcome here makes the type checker name every place that has to render it. Reads share
the refusals that apply to them.

Where another system is the source of truth and refuses, `message` and `details` are what it said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final, TypeAlias

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts.contact import Contact, ContactPreview
from contact_gateway.contacts.problems import Problem


class ErrorCode(StrEnum):
    """Why a submission was refused, for programs."""

    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    RATE_LIMITED = "RATE_LIMITED"
    INVALID_INPUT = "INVALID_INPUT"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"


_KEY_REFUSALS: Final = {
    KeyRefusal.MISSING: "An API key is required: send it as X-Api-Key or Authorization: Bearer.",
    KeyRefusal.MALFORMED: "This is not an API key of this gateway. Look for a typo.",
    KeyRefusal.UNKNOWN: "This API key is not known here.",
    KeyRefusal.EXPIRED: "This API key has expired.",
    KeyRefusal.REVOKED: "This API key has been revoked.",
    KeyRefusal.REFUSED: "HiEnergy does not accept this API key.",
}
Details: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Created:
    """The contact is stored, by this submission or, if replayed, by an earlier equal one."""

    contact: Contact
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Previewed:
    """All rules hold; a dry run creates nothing."""

    preview: ContactPreview


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """Rule 1: the caller presents no valid, unexpired, unrevoked key."""

    code: ClassVar[ErrorCode] = ErrorCode.UNAUTHORIZED
    meaning: ClassVar[str] = "No valid, unexpired, unrevoked API key was presented."
    reason: KeyRefusal
    said: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """Say what is wrong with the credential."""
        return self.said or _KEY_REFUSALS[self.reason]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Rule 2: the key is valid, and its owner is not an admin."""

    code: ClassVar[ErrorCode] = ErrorCode.FORBIDDEN
    meaning: ClassVar[str] = "The API key is valid, but only an admin's may create contacts."
    message: str = "Only an admin's API key may create contacts."
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Rule 3: the key has spent its budget."""

    code: ClassVar[ErrorCode] = ErrorCode.RATE_LIMITED
    meaning: ClassVar[str] = "The API key's budget for this hour is spent."
    retry_after_seconds: int
    said: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """Say when to come back."""
        return (
            self.said
            or f"The API key's hourly limit is reached. Retry in {self.retry_after_seconds} s."
        )


@dataclass(frozen=True, slots=True)
class InvalidInput:
    """Rule 4: the input is not valid. All its problems are told at once."""

    code: ClassVar[ErrorCode] = ErrorCode.INVALID_INPUT
    meaning: ClassVar[str] = "The input is not valid; every problem is listed."
    problems: tuple[Problem, ...]
    said: str | None = None
    details: Details = field(default_factory=dict)

    @property
    def message(self) -> str:
        """Say how much is wrong."""
        if self.said:
            return self.said
        count = len(self.problems)
        return f"The input has {count} problem{'s' if count > 1 else ''}."


@dataclass(frozen=True, slots=True)
class IdempotencyKeyReused:
    """Rule 5: the idempotency key created a contact from another input."""

    code: ClassVar[ErrorCode] = ErrorCode.IDEMPOTENCY_KEY_REUSED
    meaning: ClassVar[str] = "The idempotency key was used before with a different input."
    message: str = "This idempotency key was used before with a different input."
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotFound:
    """Rule 6: no HiEnergy advertiser for the submitted one. Of reads: no such record."""

    code: ClassVar[ErrorCode] = ErrorCode.NOT_FOUND
    meaning: ClassVar[str] = "The advertiser is unknown, or has no HiEnergy record."
    message: str = "The advertiser does not resolve to a HiEnergy advertiser."
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Rule 7: the HiEnergy advertiser has a contact with this address.

    `existing` is None only where another system refuses and does not show the contact.
    """

    code: ClassVar[ErrorCode] = ErrorCode.CONFLICT
    meaning: ClassVar[str] = (
        "The HiEnergy advertiser already has a contact with this e-mail address."
    )
    existing: Contact | None
    message: str = "The HiEnergy advertiser already has a contact with this e-mail address."
    details: Details = field(default_factory=dict)


Refusal: TypeAlias = (
    Unauthorized
    | Forbidden
    | RateLimited
    | InvalidInput
    | IdempotencyKeyReused
    | NotFound
    | Conflict
)
CreateContactOutcome: TypeAlias = Created | Previewed | Refusal
ReadRefusal: TypeAlias = Unauthorized | Forbidden | RateLimited | InvalidInput


def outcome_name(outcome: CreateContactOutcome) -> str:
    """Name an outcome for logs and figures: a refusal's code, or what was done."""
    match outcome:
        case Created(replayed=True):
            return "REPLAYED"
        case Created():
            return "CREATED"
        case Previewed():
            return "PREVIEWED"
        case refusal:
            return refusal.code
