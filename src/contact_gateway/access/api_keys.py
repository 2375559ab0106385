"""API keys: how one is minted, recognised and verified.

A key reads `cgw_` + 12 characters that find it + 32 that prove it + 6 of checksum, all of the
alphabet 0-9A-Za-z. The prefix lets secret scanners find a leaked key; the checksum tells a typo
from a key that was revoked, without asking the store. Of the proving part, 190 bits of
randomness, the store holds only the SHA-256: a fast hash is enough where guessing is hopeless.
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

from contact_gateway.access.principals import KeyRefusal, Principal, Role

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
    """A credential of the right shape and checksum: what finds the key, and what proves it."""

    lookup: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True, repr=False)
class MintedKey:
    """A new key. `text` is shown once and kept nowhere; the rest goes into the store."""

    text: str
    lookup: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as the store knows it. Times are aware and in UTC."""

    id: int
    lookup: str
    secret_hash: bytes
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def mint() -> MintedKey:
    """Return a new key of 190 random bits that nobody has seen."""
    lookup = _random(_LOOKUP_LENGTH)
    secret = _random(_SECRET_LENGTH)
    text = f"{PREFIX}{lookup}{secret}"
    return MintedKey(text=text + _checksum(text), lookup=lookup, secret_hash=_hash(secret))


def parse(text: str) -> PresentedKey | None:
    """Read a credential, or return None where it is not a key or has a typo."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    if not hmac.compare_digest(_checksum(text[:-_CHECKSUM_LENGTH]), match["checksum"]):
        return None
    return PresentedKey(lookup=match["lookup"], secret_hash=_hash(match["secret"]))


def verify(
    presented: PresentedKey, record: KeyRecord | None, now: datetime
) -> Principal | KeyRefusal:
    """Decide whom a presented key speaks for, in the same time whether or not it is known."""
    expected = _NO_HASH if record is None else record.secret_hash
    proven = hmac.compare_digest(presented.secret_hash, expected)
    if record is None or not proven:
        return KeyRefusal.UNKNOWN
    ended = end(record, now)
    if ended is not None:
        return ended
    return Principal(key_id=record.id, label=record.label, role=record.role)


def end(record: KeyRecord, now: datetime) -> KeyRefusal | None:
    """Tell why a key speaks for nobody any more; None while it does."""
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
