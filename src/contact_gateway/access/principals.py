"""Who a credential belongs to, and why a credential is refused."""

import hashlib
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from contact_gateway.access import json_web_tokens
from contact_gateway.access.quota import Quota


class Role(StrEnum):
    """The role of an API key: admins create contacts, members only read."""

    ADMIN = "admin"
    MEMBER = "member"


class Credential(NamedTuple):
    """The secret that a client sent. Never shown, logged or stored."""

    secret: str

    digest: bytes
    """The BLAKE2s of the secret (32 bytes), for caches that must not hold the secret."""

    @classmethod
    def of(cls, secret: str) -> Self:
        """Return the credential with a secret."""
        return cls(secret, hashlib.blake2s(secret.encode(errors="surrogatepass")).digest())

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return "Credential(…)"

    @property
    def is_jwt(self) -> bool:
        """Whether the secret is a JSON Web Token, and not an API key."""
        return json_web_tokens.claims_of(self.secret) is not None

    def scope(self) -> str:
        """Return what identifies the owner: of a token its person, else the secret itself.

        The person of a token is unverified: nothing may be shown by it before upstream has accepted
        the credential.
        """
        return json_web_tokens.person_of(self.secret) or self.secret


class Principal(Protocol):
    """The owner of an accepted credential, as far as admission needs to know them."""

    @property
    def role(self) -> Role | None:
        """The role; None where only the source of truth knows it."""
        ...

    @property
    def quota_key(self) -> str | None:
        """What the gateway counts this owner's operations by; None where the source counts."""
        ...

    @property
    def reported_quota(self) -> Quota | None:
        """The quota that the source reported while it served this request."""
        ...

    @property
    def is_refused(self) -> bool | None:
        """Whether the credential turned out to be wrong; None while that is unknown."""
        ...


class ApiKeyOwner(NamedTuple):
    """The owner of a valid API key of the gateway's own store. Implements `Principal`."""

    key_id: int
    label: str
    role: Role
    secret_hash: bytes
    """Of the secret that was presented: a key may have two."""

    reported_quota: None = None
    """None: the gateway counts."""

    is_refused: bool = False
    """False: the store has verified the key."""

    @property
    def quota_key(self) -> str:
        """The id of the key."""
        return str(self.key_id)


class Operator(NamedTuple):
    """Whoever may write to the database itself, such as by the command line. A `Principal`."""

    key_id: int = 0
    """The id of no API key."""

    label: str = "operator"
    role: Role = Role.ADMIN
    secret_hash: bytes = b""
    quota_key: None = None
    reported_quota: None = None
    """None, both: nothing is counted."""

    is_refused: bool = False
    """False: there is no credential."""


class Authenticated(Protocol):
    """What a successful authentication returns: at least the owner of the credential."""

    @property
    def principal(self) -> Principal:
        """The owner of the credential."""
        ...


class Identity(NamedTuple):
    """What a caller may learn about the credential in use."""

    label: str
    role: Role


class KeyRefusal(StrEnum):
    """Why a credential is not accepted.

    `EXPIRED`, `REVOKED` and `ROTATED` are reported only to a caller that has a secret of the key.
    `REFUSED` means that upstream decided.
    """

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ROTATED = "rotated"
    REFUSED = "refused"
