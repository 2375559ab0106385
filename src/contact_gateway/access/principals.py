"""Who a credential speaks for, or why it speaks for nobody."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a key's owner is to HiEnergy: only admins create contacts, members read."""

    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a valid key. Idempotency keys and the rate limit are counted by `key_id`."""

    key_id: int
    label: str
    role: Role


class KeyRefusal(StrEnum):
    """Why a credential is no valid key.

    `EXPIRED` and `REVOKED` are told only to a caller who holds the key's secret.
    """

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
