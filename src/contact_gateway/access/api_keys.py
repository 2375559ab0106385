"""API keys: minting, parsing and verifying them.

A key is `cgw_` + a 12-character lookup id + a 32-character secret + a 6-character checksum, all in
the alphabet 0-9A-Za-z. The prefix lets secret scanners find a leaked key. The checksum separates a
typo from a revoked key without a database read. The store holds only the SHA-256 of the secret: a
fast hash is enough for 190 random bits.
"""

import binascii
import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contact_gateway.access.principals import ApiKeyOwner, KeyRefusal, Role

PREFIX: Final = "cgw_"
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LOOKUP_LENGTH: Final = 12
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6
_SHAPE: Final = re.compile(
    rf"{PREFIX}(?P<lookup>[0-9A-Za-z]{{{_LOOKUP_LENGTH}}})"
    rf"(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}})"
    rf"(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True, repr=False)
class PresentedKey:
    """A well-formed credential: the id to look the key up by, and the hash to verify it with."""

    lookup: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True, repr=False)
class MintedKey:
    """A new key. `text` is shown once and never stored."""

    text: str
    lookup: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as stored. Times are aware and in UTC."""

    id: int
    lookup: str
    secret_hash: bytes
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def mint() -> MintedKey:
    """Return a new key with 190 random bits."""
    lookup = _random(_LOOKUP_LENGTH)
    secret = _random(_SECRET_LENGTH)
    text = f"{PREFIX}{lookup}{secret}"
    return MintedKey(text=text + _checksum(text), lookup=lookup, secret_hash=_hash(secret))


def parse(text: str) -> PresentedKey | None:
    """Parse a credential; return None if it is not a key or has a typo."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    if not hmac.compare_digest(_checksum(text[:-_CHECKSUM_LENGTH]), match["checksum"]):
        return None
    return PresentedKey(lookup=match["lookup"], secret_hash=_hash(match["secret"]))


def verify(
    presented: PresentedKey, record: KeyRecord | None, now: datetime
) -> ApiKeyOwner | KeyRefusal:
    """Return the owner of a presented key, in constant time whether or not the key is known."""
    expected = _NO_HASH if record is None else record.secret_hash
    matches = hmac.compare_digest(presented.secret_hash, expected)
    if record is None or not matches:
        return KeyRefusal.UNKNOWN
    refusal = refusal_of(record, now)
    if refusal is not None:
        return refusal
    return ApiKeyOwner(key_id=record.id, label=record.label, role=record.role)


def refusal_of(record: KeyRecord, now: datetime) -> KeyRefusal | None:
    """Return why a stored key is no longer valid, or None if it is."""
    if record.revoked_at is not None:
        return KeyRefusal.REVOKED
    if record.expires_at is not None and record.expires_at <= now:
        return KeyRefusal.EXPIRED
    return None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _checksum(text: str) -> str:
    value = binascii.crc32(text.encode("ascii"))
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
