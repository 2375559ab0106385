"""The callers of the fake HiEnergy: two API keys, and any good JWT."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from support.hienergy_documents import RefusedError
from support.upstream import KEY

MEMBER_KEY: Final = "member-key"


class Caller(NamedTuple):
    """An authenticated caller; renewed tokens of one person are one caller."""

    person: str
    is_admin: bool


def jwt(
    sub: str = "maya",
    *,
    iss: str = "https://login.example/",
    aud: str | Sequence[str] = "https://api.example/",
    n: int = 1,
    good: bool = True,
    role: str = "admin",
) -> str:
    """Return a token of one person; `n` counts its renewals."""
    payload = {"iss": iss, "sub": sub, "aud": aud, "role": role, "n": n}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()) for part in ({"alg": "none"}, payload)
    ]
    head = b".".join(part.rstrip(b"=") for part in parts).decode()
    return f"{head}.{'good' if good else 'evil'}"


def authenticated(headers: Mapping[str, str]) -> Caller:
    """Return the caller: API keys are in `X-Api-Key` alone, and JWTs are bearer tokens alone."""
    key = headers.get("x-api-key")
    if key in {KEY, MEMBER_KEY}:
        return Caller(key, key == KEY)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if key is not None or scheme.lower() != "bearer":
        raise RefusedError(401, "Invalid or missing API key.")
    try:
        _, payload, signature = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        raise RefusedError(401, "Invalid token.") from None
    if signature != "good" or not isinstance(claims, dict):
        raise RefusedError(401, "Invalid token.")
    person = json.dumps([claims.get(name) for name in ("iss", "sub", "aud")])
    return Caller(person, claims.get("role") == "admin")
