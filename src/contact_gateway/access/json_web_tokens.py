"""JSON Web Tokens, as far as they can be read without the key that verifies them."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

import orjson

_MAX_LENGTH: Final = 16_384
# It takes linear time, because any client may send a value of any length.
_SEGMENTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")


def claims_of(text: str) -> Mapping[str, object] | None:
    """Return the unverified claims of a JSON Web Token, or None if the text is not one.

    A token has three segments in base64url: a JSON object with `alg`, the claims as a JSON object,
    and a signature (RFC 7519, section 7.2). A text above 16 KiB, or nested too deeply to parse, is
    none.
    """
    if len(text) > _MAX_LENGTH:
        return None
    segments = _SEGMENTS.fullmatch(text)
    if segments is None:
        return None
    header, claims = _json_object(segments[1]), _json_object(segments[2])
    is_signed = header is not None and isinstance(header.get("alg"), str)
    return claims if is_signed else None


def person_of(text: str) -> str | None:
    """Return canonical JSON of a token's issuer, subject and audience; None if it names no subject.

    A renewed token of the same person has the same ones. The order of audiences does not matter.
    """
    claims = claims_of(text)
    if claims is None:
        return None
    issuer, subject = claims.get("iss"), claims.get("sub")
    audience = claims.get("aud", [])
    audiences = audience if isinstance(audience, list) else [audience]
    if not isinstance(subject, str) or not subject or not isinstance(issuer, (str, type(None))):
        return None
    if not all(isinstance(each, str) for each in audiences):
        return None
    return orjson.dumps({"iss": issuer, "sub": subject, "aud": sorted(audiences)}).decode()


def _json_object(segment: str) -> Mapping[str, object] | None:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None
