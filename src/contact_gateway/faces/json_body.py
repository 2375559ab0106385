"""Request bodies: read within bounds of size and time, and parsed strictly."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from contact_gateway.faces.http import TransportCode, TransportError

MAX_DIGITS: Final = 40
"""Python reads whole numbers of no more than 4,300 digits; as far out of every range as longer ones
are these."""

BODY_HAS_ARRIVED: Final = "contact_gateway.body_has_arrived"
"""Among the extensions of a request's scope, by which a server tells more than ASGI asks for: then
no timer is needed to wait for it."""

# A text, or a bracket outside of texts. A text without an end goes to the end, and is not looked at
# again from each of its quotes.
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a body may be, how long it may take to arrive, and how deep its JSON may be."""

    max_bytes: int
    timeout_seconds: float
    max_json_depth: int


async def read_json(request: Request, headers: Mapping[str, str], limits: BodyLimits) -> object:
    """Read a request's JSON body; its headers are given by their names in lower case.

    Raises:
        TransportError: the body is not JSON, not declared as JSON, too large, deep or slow.
    """
    _require_json_media_type(headers.get("content-type", ""))
    body = await _read_body(request, headers, limits)
    return parse_json(body, limits.max_json_depth)


def _require_json_media_type(content_type: str) -> None:
    """Refuse a body that is not declared as JSON in UTF-8.

    Raises:
        TransportError: `UNSUPPORTED_MEDIA_TYPE`.
    """
    if content_type == "application/json":
        return
    media_type, _, parameters = content_type.partition(";")
    charset = re.search(r'charset\s*=\s*"?([^\s";]+)', parameters, re.IGNORECASE)
    in_utf8 = charset is None or charset[1].lower() in {"utf-8", "utf8", "us-ascii"}
    if media_type.strip().lower() != "application/json" or not in_utf8:
        raise TransportError(
            TransportCode.UNSUPPORTED_MEDIA_TYPE,
            "Send the body as application/json in UTF-8.",
            {"Accept": "application/json"},
        )


def parse_json(text: bytes, max_depth: int) -> object:
    """Parse JSON strictly: no NaN, no infinities, no name twice in an object, and not too deep.

    Fractions become decimals, so that none passes for the whole number that it is rounded to.

    Raises:
        TransportError: `BAD_REQUEST`.
    """
    _require_depth(text, max_depth)
    try:
        return _STRICT.decode(text.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError):
        raise TransportError(
            TransportCode.BAD_REQUEST, "This is not valid JSON in UTF-8."
        ) from None


def _require_depth(text: bytes, max_depth: int) -> None:
    """Refuse what is nested too deep, before it is parsed.

    Raises:
        TransportError: `BAD_REQUEST`.
    """
    # Most have fewer brackets than that, wherever those stand.
    if text.count(b"[") + text.count(b"{") <= max_depth:
        return
    depth = 0
    for token in _STRUCTURE.finditer(text):
        if token[0] in {b"[", b"{"}:
            depth += 1
        elif token[0] in {b"]", b"}"}:
            depth -= 1
        if depth > max_depth:
            raise TransportError(
                TransportCode.BAD_REQUEST, f"The JSON is more than {max_depth} values deep."
            )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _whole_number(digits: str) -> int:
    return int(digits[:MAX_DIGITS])


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return read


_STRICT: Final = json.JSONDecoder(
    parse_constant=_refuse,
    parse_int=_whole_number,
    parse_float=Decimal,
    object_pairs_hook=_object,
)


async def _read_body(request: Request, headers: Mapping[str, str], limits: BodyLimits) -> bytes:
    max_bytes = limits.max_bytes
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportError(
            TransportCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without content encoding."
        )
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    if BODY_HAS_ARRIVED in request.scope.get("extensions", ()):
        return await _received(request, max_bytes)
    try:
        async with asyncio.timeout(limits.timeout_seconds):
            return await _received(request, max_bytes)
    except TimeoutError:
        raise TransportError(
            TransportCode.REQUEST_TIMEOUT,
            f"The body did not arrive within {limits.timeout_seconds:g} seconds.",
            {"Connection": "close"},
        ) from None


async def _received(request: Request, max_bytes: int) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> TransportError:
    return TransportError(
        TransportCode.PAYLOAD_TOO_LARGE, f"The body is larger than {max_bytes} bytes."
    )
