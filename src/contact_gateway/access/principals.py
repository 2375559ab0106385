"""Who a credential speaks for, or why it speaks for nobody."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from contact_gateway.access.quota import Quota


class Role(StrEnum):
    """What a key's owner is to HiEnergy: only admins create contacts, members read."""

    ADMIN = "admin"
    MEMBER = "member"


class CredentialScheme(StrEnum):
    """How a credential is presented in HTTP."""

    API_KEY = "X-Api-Key"
    BEARER = "Authorization: Bearer"


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What a caller presents, as it came. It is never shown, logged or stored."""

    secret: str
    scheme: CredentialScheme = CredentialScheme.API_KEY

    digest: bytes = field(init=False, compare=False)
    """What stands for it where it is remembered (32 bytes): several places ask in each request."""

    def __post_init__(self) -> None:
        """Work out the digest."""
        digest = hashlib.sha256(self.secret.encode(errors="surrogatepass")).digest()
        object.__setattr__(self, "digest", digest)


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a valid key. Idempotency keys and the rate limit are counted by `key_id`."""

    key_id: int
    label: str
    role: Role


@dataclass(slots=True)
class Reported:
    """What the source said of a caller while it served one request.

    `window` is their budget; `is_refused` tells whether their key was good, None while it is not
    known.
    """

    window: Quota | None = None
    is_refused: bool | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ForwardedPrincipal:
    """Somebody whom only the source can judge: their credential travels on with each question."""

    credential: Credential
    reported: Reported = field(default_factory=Reported)


AnyPrincipal: TypeAlias = Principal | ForwardedPrincipal


@dataclass(frozen=True, slots=True)
class Identity:
    """What a key says of its owner."""

    label: str
    role: Role


class KeyRefusal(StrEnum):
    """Why a credential is no valid key.

    `EXPIRED` and `REVOKED` are told only to a caller who holds the key's secret; `REFUSED` is all
    that is known where the source judges.
    """

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REFUSED = "refused"
