"""API keys: minting, parsing, verifying and rotating them.

A key is `cgw_` + a 12-character lookup id + a 32-character secret + a 6-character checksum, all in
the alphabet 0-9A-Za-z. The prefix lets secret scanners find a leaked key. The checksum separates a
typo from a revoked key without a database read. The store holds only the SHA-256 of the secret: a
fast hash is enough for 190 random bits.

A rotation replaces the secret, and keeps the lookup id. So one lookup finds a key by its new secret
and by its old one, which stays valid until an overlap ends.
"""

import binascii
import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

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


class KeyRecord(NamedTuple):
    """An API key as stored. Times are aware and in UTC."""

    id: int
    lookup: str
    secret_hash: bytes
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    old_secret_hash: bytes | None = None
    """Of the secret before the last rotation, also after its end."""

    old_secret_expires_at: datetime | None = None
    last_used_on: date | None = None
    """The last day in UTC on which the key was accepted."""


@dataclass(frozen=True, slots=True, repr=False)
class Rotation:
    """The new secret of a key, and the key as it is to be stored with it."""

    minted: MintedKey
    record: KeyRecord


class RotationRefusal(StrEnum):
    """Why a key is not rotated. `OVERLAP` means that it has two valid secrets already."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    OVERLAP = "overlap"


def mint(lookup: str | None = None) -> MintedKey:
    """Return a new key with 190 random bits, or a new secret for the lookup id of a key."""
    lookup = lookup or _random(_LOOKUP_LENGTH)
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
    old = _NO_HASH if record is None else record.old_secret_hash or _NO_HASH
    is_current = hmac.compare_digest(presented.secret_hash, expected)
    is_old = hmac.compare_digest(presented.secret_hash, old)
    if record is None or not (is_current or is_old):
        return KeyRefusal.UNKNOWN
    refusal = refusal_of(record, presented.secret_hash, now)
    if refusal is not None:
        return refusal
    return ApiKeyOwner(record.id, record.label, record.role, presented.secret_hash)


def refusal_of(record: KeyRecord, secret_hash: bytes, now: datetime) -> KeyRefusal | None:
    """Return why a key is no longer valid with a secret that was verified, or None if it is."""
    if record.revoked_at is not None:
        return KeyRefusal.REVOKED
    if record.expires_at is not None and record.expires_at <= now:
        return KeyRefusal.EXPIRED
    if secret_hash == record.secret_hash:
        return None
    # Of the secrets before the last rotation, only the latest may still be valid.
    is_old = secret_hash == record.old_secret_hash and _has_overlap(record, now)
    return None if is_old else KeyRefusal.ROTATED


def end_of(record: KeyRecord, secret_hash: bytes) -> datetime | None:
    """Return when a key ceases to be valid with one of its secrets, or None if it never does."""
    if secret_hash == record.secret_hash:
        return record.expires_at
    return _earliest(record.expires_at, record.old_secret_expires_at)


def rotate(
    record: KeyRecord, overlap: timedelta, now: datetime, expires_at: datetime | None = None
) -> Rotation | RotationRefusal:
    """Give a key a new secret. The one before stays valid until the overlap or the key ends.

    Args:
        record: the key.
        overlap: zero ends all earlier secrets.
        now: when the overlap begins.
        expires_at: when the key expires from now on; None leaves that as it is.
    """
    refusal = refusal_of(record, record.secret_hash, now)
    if refusal is not None:
        # Of its current secret, a key is refused as revoked or expired only.
        return RotationRefusal(refusal)
    if overlap and _has_overlap(record, now):
        return RotationRefusal.OVERLAP
    minted = mint(record.lookup)
    rotated = record._replace(
        secret_hash=minted.secret_hash,
        expires_at=expires_at or record.expires_at,
        old_secret_hash=record.secret_hash,
        # The old secret gains no time by a new expiry date.
        old_secret_expires_at=_earliest(now + overlap, record.expires_at, expires_at),
    )
    return Rotation(minted, rotated)


def _has_overlap(record: KeyRecord, now: datetime) -> bool:
    return record.old_secret_expires_at is not None and record.old_secret_expires_at > now


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


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
